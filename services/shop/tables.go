package shop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
)

const tables = `
create schema if not exists {{shop}};
create table if not exists {{shop}}.customer (
	customer_id   text primary key,
	name          text not null,
	email         text not null,
	city          text not null,
	registered_at timestamptz not null
);
create table if not exists {{shop}}.product (
	product_id  text primary key,
	name        text not null,
	description text not null,
	price       numeric(10, 2) not null,
	row_version bigint not null,
	listed_at   timestamptz not null,
	retired_at  timestamptz
);
create sequence if not exists {{shop}}.order_number;
create table if not exists {{shop}}.orders (
	order_id       text primary key,
	customer_id    text not null references {{shop}}.customer,
	status         text not null,
	total          numeric(12, 2) not null,
	currency       text not null,
	note           text,
	carrier        text,
	refund         numeric(12, 2),
	placed_at      timestamptz not null,
	changed_at     timestamptz not null
);
create table if not exists {{shop}}.order_line (
	order_id   text not null references {{shop}}.orders,
	line       int not null,
	product_id text not null references {{shop}}.product,
	quantity   int not null,
	unit_price numeric(10, 2) not null,
	primary key (order_id, line)
);`

// in puts the name of the shop's schema into a statement.
func (s *Shop) in(sql string) string { return inSchema(s.cfg.Schema, sql) }

func inSchema(schema, sql string) string {
	return strings.ReplaceAll(sql, "{{shop}}", pgx.Identifier{schema}.Sanitize())
}

// tablesLock is the advisory lock under which two shops that start at once create the tables one after the other.
const tablesLock = 7_310_020_118

func (s *Shop) createTables(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(tablesLock)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.in(tables))
		return err
	})
}

func customerID(i int) string { return fmt.Sprintf("c-%04d", i) }
func productID(i int) string  { return fmt.Sprintf("p-%04d", i) }

// stock registers the customers and lists the products that are not there yet, and finds orders that are still open.
func (s *Shop) stock(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(s.cfg.Seed, 1<<32))
	err := pgx.BeginFunc(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", int64(tablesLock)); err != nil {
			return err
		}
		var events []outbox.Event
		for i := range s.cfg.Customers {
			e, err := s.register(ctx, tx, rng, i)
			if err != nil {
				return err
			}
			events = append(events, e...)
		}
		for i := range s.cfg.Products {
			e, err := s.list(ctx, tx, rng, i)
			if err != nil {
				return err
			}
			events = append(events, e...)
		}
		if err := s.out.Write(ctx, tx, events...); err != nil {
			return err
		}
		s.counters.events.Add(int64(len(events)))
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := queryAll[string](ctx, s.cfg.Pool, s.in(`select order_id from {{shop}}.orders
		where status in ('placed', 'paid', 'shipped') order by placed_at desc limit 1000`))
	for _, id := range ids {
		s.open.add(id)
	}
	return err
}

// queryAll returns the rows of one column.
func queryAll[T any](ctx context.Context, q interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}
