package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/outbox"
	"github.com/millrace/millrace/outbox/migrate"
	"github.com/millrace/millrace/schemas"
)

// lend changes a row and tells of it, in one transaction. BookLent is a struct with avro tags.
func lend(ctx context.Context, pool *pgxpool.Pool, out *outbox.Outbox, book, member string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// The row lock makes writers of one book take turns: their events keep the order of their commits.
		tag, err := tx.Exec(ctx, "update book set lent_to = $2 where id = $1 and lent_to is null", book, member)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("book %s is not there", book)
		}
		return out.Write(ctx, tx, BookLent{
			BookID: book, MemberID: member, Due: time.Date(2025, 3, 14, 0, 0, 0, 0, time.UTC), Fee: big.NewRat(5, 2), Copies: 1,
		})
	})
}

func Example() {
	ctx := context.Background()
	pool, done := exampleDatabase() // pgxpool.New(ctx, "postgres://...")
	defer done()
	if _, err := migrate.Up(ctx, pool); err != nil { // or: millrace migrate up
		panic(err)
	}
	catalogue, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		panic(err)
	}
	out, err := outbox.New(ctx, pool, catalogue)
	if err != nil {
		panic(err)
	}

	fmt.Println(lend(ctx, pool, out, "moby-dick", "m-1"))
	fmt.Println(lend(ctx, pool, out, "moby-dick", "m-2"))
	printOutbox(pool)
	// Output:
	// <nil>
	// book moby-dick is not there
	// library.books moby-dick library.BookLent
}

func ExampleRecord() {
	ctx := context.Background()
	pool, done := exampleOutbox()
	defer done()
	out, err := outbox.New(ctx, pool, exampleCatalogue())
	if err != nil {
		panic(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return out.Write(ctx, tx, outbox.Record{
			Type:    "library.BookLent",
			Fields:  map[string]any{"book_id": "emma", "member_id": "m-1", "due": "2025-03-14", "fee": "2.50"},
			Headers: map[string]string{outbox.HeaderTenant: "acme"},
		})
	})
	fmt.Println(err)
	printOutbox(pool)
	// Output:
	// <nil>
	// library.books emma library.BookLent
}

// An event that does not fit is refused before anything is sent; the transaction can go on.
func ExampleRefused() {
	ctx := context.Background()
	pool, done := exampleOutbox()
	defer done()
	out, err := outbox.New(ctx, pool, exampleCatalogue())
	if err != nil {
		panic(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		err := out.Write(ctx, tx, outbox.Record{Type: "library.ShelfMoved", Fields: map[string]any{"room": "west", "shelf": 7}})
		var e *outbox.EventError
		if errors.As(err, &e) {
			fmt.Println(outbox.Refused(err), e.Index, e.Type, e.Field, e.Reason)
		}
		return out.Write(ctx, tx, outbox.Record{Type: "library.ShelfMoved", Fields: map[string]any{"room": "south", "shelf": 7}})
	})
	fmt.Println(err)
	printOutbox(pool)
	// Output:
	// true 0 library.ShelfMoved room does not fit the schema
	// <nil>
	// library.shelves 7 library.ShelfMoved
}

// Writers that create something have no row to lock yet.
func ExampleLockKey() {
	ctx := context.Background()
	pool, done := exampleOutbox()
	defer done()
	out, err := outbox.New(ctx, pool, exampleCatalogue())
	if err != nil {
		panic(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := outbox.LockKey(ctx, tx, "library.rooms", "north"); err != nil {
			return err
		}
		return out.Write(ctx, tx, outbox.Record{Type: "library.RoomClosed", Fields: map[string]any{"room": "north"}})
	})
	fmt.Println(err)
	printOutbox(pool)
	// Output:
	// <nil>
	// library.rooms north library.RoomClosed
}

// Any program that can speak SQL writes events with emit.
func Example_emit() {
	ctx := context.Background()
	pool, done := exampleOutbox()
	defer done()
	if _, err := outbox.Push(ctx, pool, exampleCatalogue()); err != nil { // or: millrace schema push
		panic(err)
	}
	_, err := pool.Exec(ctx, `select outbox.emit('library.RoomClosed', null, '{"room": "south"}')`)
	fmt.Println(err)
	_, err = pool.Exec(ctx, `select outbox.emit('library.RoomClosed', null, '{"door": "south"}')`)
	fmt.Println(err)
	printOutbox(pool)
	// Output:
	// <nil>
	// ERROR: outbox: library.RoomClosed: required field room is missing (SQLSTATE MR004)
	// library.rooms south library.RoomClosed
}

func ExampleWithHeaders() {
	type tenantKey struct{}
	tenant := func(ctx context.Context) map[string]string {
		name, ok := ctx.Value(tenantKey{}).(string)
		if !ok {
			return nil
		}
		return map[string]string{outbox.HeaderTenant: name}
	}
	pool, done := exampleOutbox()
	defer done()
	ctx := context.WithValue(context.Background(), tenantKey{}, "acme")
	out, err := outbox.New(ctx, pool, exampleCatalogue(), outbox.WithHeaders(tenant))
	if err != nil {
		panic(err)
	}
	if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return out.Write(ctx, tx, outbox.Record{Type: "library.RoomClosed", Fields: map[string]any{"room": "north"}})
	}); err != nil {
		panic(err)
	}
	var headers string
	if err := pool.QueryRow(ctx, "select headers::text from outbox.event").Scan(&headers); err != nil {
		panic(err)
	}
	fmt.Println(headers)
	// Output:
	// {"millrace-tenant": "acme"}
}
