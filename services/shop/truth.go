package shop

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Truth is what the shop's own tables say, and the outbox about the events: what every sink is held against. Amounts are written with
// two digits behind the point.
type Truth struct {
	Orders    map[string]Order
	Customers map[string]Customer
	// Products are those for sale.
	Products map[string]Product
	// Revenue is what each day's orders came to that were paid and neither cancelled nor returned, in order of day (UTC).
	Revenue []DayRevenue
	// Events is the number of committed events by topic.
	Events map[string]int64
}

// Order is a row of the orders.
type Order struct {
	CustomerID, Status, Total, Currency string
	Note                                *string
	PlacedAt                            time.Time
	Lines                               int
}

// Customer is a row of the customers.
type Customer struct{ Name, Email, City string }

// Product is a row of the products.
type Product struct {
	Name, Price string
	RowVersion  int64
}

// DayRevenue is a day's revenue.
type DayRevenue struct {
	Day    string // 2006-01-02
	Total  string
	Orders int64
}

// ReadTruth reads everything in one snapshot. The names are those of Config.Schema and Config.OutboxSchema.
func ReadTruth(ctx context.Context, pool *pgxpool.Pool, schema, outboxSchema string) (*Truth, error) {
	t := &Truth{}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		for _, read := range []func() error{
			func() error { t.Orders, err = readOrders(ctx, tx, schema); return err },
			func() error { t.Customers, err = readCustomers(ctx, tx, schema); return err },
			func() error { t.Products, err = readProducts(ctx, tx, schema); return err },
			func() error { t.Revenue, err = readRevenue(ctx, tx, schema); return err },
			func() error { t.Events, err = readEvents(ctx, tx, outboxSchema); return err },
		} {
			if err := read(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the shop's tables: %w", err)
	}
	return t, nil
}

// Truth is ReadTruth for this shop.
func (s *Shop) Truth(ctx context.Context) (*Truth, error) {
	return ReadTruth(ctx, s.cfg.Pool, s.cfg.Schema, s.cfg.OutboxSchema)
}

// collect reads rows into a map. scan is where a row's columns go, keep what is done with them.
func collect[V any](ctx context.Context, tx pgx.Tx, sql string, scan func(key *string, v *V) []any) (map[string]V, error) {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]V{}
	for rows.Next() {
		var key string
		var v V
		if err := rows.Scan(scan(&key, &v)...); err != nil {
			return nil, err
		}
		out[key] = v
	}
	return out, rows.Err()
}

func readOrders(ctx context.Context, tx pgx.Tx, schema string) (map[string]Order, error) {
	return collect(ctx, tx, inSchema(schema, `select order_id, customer_id, status, total::text, currency, note, placed_at,
		(select count(*) from {{shop}}.order_line l where l.order_id = o.order_id) from {{shop}}.orders o`),
		func(key *string, o *Order) []any {
			return []any{key, &o.CustomerID, &o.Status, &o.Total, &o.Currency, &o.Note, &o.PlacedAt, &o.Lines}
		})
}

func readCustomers(ctx context.Context, tx pgx.Tx, schema string) (map[string]Customer, error) {
	return collect(ctx, tx, inSchema(schema, `select customer_id, name, email, city from {{shop}}.customer`),
		func(key *string, c *Customer) []any { return []any{key, &c.Name, &c.Email, &c.City} })
}

func readProducts(ctx context.Context, tx pgx.Tx, schema string) (map[string]Product, error) {
	return collect(ctx, tx, inSchema(schema, `select product_id, name, price::text, row_version from {{shop}}.product where retired_at is null`),
		func(key *string, p *Product) []any { return []any{key, &p.Name, &p.Price, &p.RowVersion} })
}

// readEvents counts by topic.
func readEvents(ctx context.Context, tx pgx.Tx, outboxSchema string) (map[string]int64, error) {
	sql := strings.ReplaceAll(`select topic, count(*) from {{outbox}}.event group by topic`, "{{outbox}}", pgx.Identifier{outboxSchema}.Sanitize())
	return collect(ctx, tx, sql, func(key *string, n *int64) []any { return []any{key, n} })
}

func readRevenue(ctx context.Context, tx pgx.Tx, schema string) ([]DayRevenue, error) {
	rows, err := tx.Query(ctx, inSchema(schema, `select to_char(placed_at at time zone 'UTC', 'YYYY-MM-DD') as day, sum(total)::text, count(*)
		from {{shop}}.orders where status in ('paid', 'shipped', 'delivered') group by day order by day`))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[DayRevenue])
}
