package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse/postgres"
	"github.com/millrace/millrace/schemas"
)

// unguarded replaces what compares and sets epoch and position. A sink on such a database takes whatever it is given, twice as well.
const unguarded = `CREATE OR REPLACE FUNCTION millrace.advance(t text, p int, e bigint, since bigint, till bigint, g bigint, partition_lock bigint, barrier bigint)
	RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$`

// prepareWarehouse lets the sink's own package make its tables, and takes the guard away from them if it is not wanted.
func (r *sinkRig) prepareWarehouse(ctx context.Context, dsn string, t saleTopic, guard bool) error {
	schema, err := schemas.Parse(saleSchema)
	if err != nil {
		return fmt.Errorf("parse the schema of sales: %w", err)
	}
	catalogue, err := schemas.NewCatalogue(schema)
	if err != nil {
		return fmt.Errorf("make a catalogue: %w", err)
	}
	p, err := projection.Parse("sale.yaml", []byte("entity: sale\ntopic: "+t.name+"\n"+declareAll), catalogue)
	if err != nil {
		return fmt.Errorf("parse the projection of sales: %w", err)
	}
	w, err := postgres.Open(postgres.Config{URL: dsn, Bronze: postgres.BronzeOff, Projections: []fold.Projection{p}})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil || guard {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, unguarded); err != nil {
		return fmt.Errorf("take the guard away: %w", err)
	}
	return nil
}
