package store

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/outbox/internal/dbtx"
	"github.com/millrace/millrace/schemas"
)

// StoredSchema is a row of the table schema.
type StoredSchema struct {
	schemas.Schema
	// CreatedAt is when it was stored.
	CreatedAt time.Time
	// Current says that emit() stamps it: it is the newest of its name.
	Current bool
}

// PutSchemas stores those schemas that are not stored yet, in the order given, and returns them. A schema that is
// stored already stays as it is: an old program that starts again during a deployment must not make its older schema
// the current one of emit().
//
// Call it in a transaction of its own: inside a user's, a rollback would lose what the process believes is stored. So
// would a crash of Postgres after a commit that does not wait for the disk; this one waits, whatever the session says.
func PutSchemas(ctx context.Context, tx dbtx.Tx, schema string, list []*schemas.Schema) ([]*schemas.Schema, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	// Reading first: most starts find everything in place, and then need no right to write.
	stored, err := storedAmong(ctx, tx, quoted, list)
	if err != nil {
		return nil, fmt.Errorf("read stored schemas: %w", err)
	}
	var added []*schemas.Schema
	for _, s := range list {
		if stored[s.Fingerprint] {
			continue
		}
		if added == nil {
			// Promise 1: events that the process writes later, durably, must not name a schema that a crash took away.
			if _, err := tx.Exec(ctx, "set local synchronous_commit = local"); err != nil {
				return nil, fmt.Errorf("make the commit durable: %w", err)
			}
		}
		ok, err := putSchema(ctx, tx, quoted, s)
		if err != nil {
			return nil, fmt.Errorf("store schema %s: %w", s.Name, err)
		}
		if ok {
			added = append(added, s)
		}
	}
	return added, nil
}

func storedAmong(ctx context.Context, tx dbtx.Tx, quoted string, list []*schemas.Schema) (map[schemas.Fingerprint]bool, error) {
	stored := map[schemas.Fingerprint]bool{}
	wanted := arrayOf(list, func(a *array, s **schemas.Schema) { a.bytes((*s).Fingerprint[:]) })
	err := tx.Query(ctx, func(scan func(...any) error) error {
		var raw []byte
		if err := scan(&raw); err != nil {
			return err
		}
		fp, err := schemas.ParseFingerprint(raw)
		stored[fp] = true
		return err
	}, "select fingerprint from "+quoted+".schema where fingerprint = any($1::bytea[])", wanted)
	return stored, err
}

func putSchema(ctx context.Context, tx dbtx.Tx, quoted string, s *schemas.Schema) (bool, error) {
	needs, err := needsOf(s)
	if err != nil {
		return false, err
	}
	// Another program may have stored it since we looked. Waiting for that one is short: it is in a transaction
	// of its own as well.
	n, err := tx.Exec(ctx, "insert into "+quoted+".schema"+
		" (fingerprint, name, topic, key_field, definition, fields, required, not_null, key_uuid)"+
		" values ($1, $2, $3, $4, $5, $6::text[], $7::text[], $8::text[], $9) on conflict (fingerprint) do nothing",
		s.Fingerprint[:], s.Name, orNull(s.Topic), orNull(s.Key), s.Text,
		texts(needs.fields), texts(needs.required), texts(needs.notNull), needs.keyUUID)
	return n == 1, err
}

// ListSchemas returns every stored schema, by name and from the oldest to the newest.
func ListSchemas(ctx context.Context, tx dbtx.Tx, schema string) ([]StoredSchema, error) {
	quoted, err := dbtx.Quote(schema)
	if err != nil {
		return nil, err
	}
	var list []StoredSchema
	err = tx.Query(ctx, func(scan func(...any) error) error {
		var s StoredSchema
		var raw []byte
		if err := scan(&raw, &s.Name, &s.Topic, &s.Key, &s.Text, &s.CreatedAt, &s.Current); err != nil {
			return err
		}
		var err error
		s.Fingerprint, err = schemas.ParseFingerprint(raw)
		list = append(list, s)
		return err
	}, `select fingerprint, name, coalesce(topic, ''), coalesce(key_field, ''), definition, created_at,
	           seq = max(seq) over (partition by name)
	      from `+quoted+`.schema order by name, seq`)
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	return list, nil
}
