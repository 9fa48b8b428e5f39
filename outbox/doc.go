// Package outbox writes events in the transaction of the change they tell of. The relay publishes them to Kafka once
// that transaction has committed.
//
//	catalogue, err := schemas.LoadDir("schemas")
//	out, err := outbox.New(ctx, pool, catalogue)
//
//	tx, err := pool.Begin(ctx)
//	defer tx.Rollback(ctx)
//	_, err = tx.Exec(ctx, "update orders set status = 'paid' where id = $1", id)
//	err = out.Write(ctx, tx, outbox.Record{
//		Type:   "shop.OrderPaid",
//		Fields: map[string]any{"order_id": id, "total": "12.50"},
//	})
//	err = tx.Commit(ctx)
//
// Write takes a pgx.Tx, WriteSQL a *sql.Tx (which GORM and ent give access to); neither can be called outside a
// transaction. An event is a Record, or a struct with avro tags that names its type (see Event). It is encoded here,
// against the schema the application carries: no network call and no lock, besides the one INSERT. Where it goes and
// what its key is, the schema says, by its properties millrace.topic and millrace.key.
//
// Programs in other languages call a function in SQL, to the same effect:
//
//	select outbox.emit('shop.OrderPaid', null, '{"order_id": "o-1", "total": "12.50"}')
//
// # Promises
//
// Of the promises of the whole, this package upholds these.
//
// Promise 1, nothing invented and nothing lost: an event is a row of the caller's transaction. It is there if and
// only if that commits; a rollback, also to a savepoint, takes it away. Schemas are stored by New, in transactions of
// its own, so that no rollback of the caller's can take away what Write relies on.
//
// Promise 2, order: rows get their ids from one sequence, in the order of the events given, when they are inserted.
// For writers of one key that take turns before they insert, by a row lock, a version check or LockKey, the order of
// ids is the order of commits.
//
// Promise 6, no burden on the application's database: one INSERT for all events of a call. It takes no lock, never
// fails or waits because of the relay, and needs no prepared statement of its own (PgBouncer in transaction mode
// will do).
//
// # When an event is refused
//
// Everything about an event is checked before the first statement is sent: an *EventError leaves the transaction as
// it was, so that it can go on or roll back, as the caller likes. After any other error of Write the transaction is
// aborted, as after any failed statement; only its rollback is left.
//
// # Files, in the order in which an event passes through them
//
//	outbox.go    New, the options and what is prepared once
//	event.go     Event, Record, Envelope: what can be written
//	write.go     Write and WriteSQL
//	encode.go    an event -> a row
//	key.go       the key of an event, given or from its key field
//	headers.go   headers, those of the event and those of the context
//	limits.go    how large a thing may be
//	push.go      Push and List: the table of schemas
//	lock.go      LockKey
//	check.go     Checker: what Write would refuse, without a database
//	errors.go    EventError and its reasons
//
// Package migrate makes the tables, backfill fills an outbox from tables that were there before, outboxtest helps to test what an application writes, and store holds all SQL.
package outbox
