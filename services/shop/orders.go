package shop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
)

var (
	notes    = []string{"please ring twice", "leave it with the neighbours", "a gift: no invoice, please", "back door, mind the dog", "before Friday if you can"}
	carriers = []string{"Postbode", "Northline", "Hermod", "Kurir"}
	reasons  = []string{"changed my mind", "found it cheaper", "does not fit", "arrived broken", "ordered twice"}
	methods  = []string{"card", "card", "card", "invoice", "voucher"}
)

// place takes an order of one to four products.
func (s *Shop) place(ctx context.Context, d *deed) (int, error) {
	var ids []string
	for range 1 + d.rng.IntN(4) {
		ids = append(ids, productID(hot(d.rng, s.cfg.Products)))
	}
	slices.Sort(ids) // the foreign keys lock the products in this order
	lines, total, err := s.priceLines(ctx, d, slices.Compact(ids))
	if err != nil || len(lines) == 0 {
		return 0, err
	}
	var number int64
	if err := d.tx.QueryRow(ctx, s.in(`select nextval('{{shop}}.order_number')`)).Scan(&number); err != nil {
		return 0, err
	}
	e := orderPlaced{
		OrderID: fmt.Sprintf("o-%07d", number), CustomerID: customerID(hot(d.rng, s.cfg.Customers)), Total: total.rat(), Currency: "EUR", PlacedAt: s.calendar.now(),
	}
	if d.rng.IntN(3) == 0 {
		note := pick(d.rng, notes)
		e.Note = &note
	}
	if _, err := d.tx.Exec(ctx, s.in(`insert into {{shop}}.orders (order_id, customer_id, status, total, currency, note, placed_at, changed_at)
		values ($1, $2, 'placed', $3, $4, $5, $6, $6)`), e.OrderID, e.CustomerID, total.String(), e.Currency, e.Note, e.PlacedAt); err != nil {
		return 0, err
	}
	for i, l := range lines {
		e.Lines = append(e.Lines, orderLine{ProductID: l.id, Quantity: l.quantity, UnitPrice: l.price.rat()})
		if _, err := d.tx.Exec(ctx, s.in(`insert into {{shop}}.order_line (order_id, line, product_id, quantity, unit_price) values ($1, $2, $3, $4, $5)`),
			e.OrderID, i+1, l.id, l.quantity, l.price.String()); err != nil {
			return 0, err
		}
	}
	d.placed = append(d.placed, e.OrderID)
	return 1, s.out.Write(ctx, d.tx, e)
}

type line struct {
	id       string
	quantity int
	price    cents
}

// priceLines finds what of the products is for sale, and for how much.
func (s *Shop) priceLines(ctx context.Context, d *deed, ids []string) (lines []line, total cents, err error) {
	rows, err := d.tx.Query(ctx, s.in(`select product_id, (price * 100)::bigint from {{shop}}.product
		where product_id = any($1) and retired_at is null order by product_id`), ids)
	if err != nil {
		return nil, 0, err
	}
	l := line{}
	_, err = pgx.ForEachRow(rows, []any{&l.id, &l.price}, func() error {
		l.quantity = 1 + d.rng.IntN(3)
		lines = append(lines, l)
		total += l.price * cents(l.quantity)
		return nil
	})
	return lines, total, err
}

// advance takes an order to what comes next for it. Several workers may be at the same one: the row lock makes them take turns.
func (s *Shop) advance(ctx context.Context, d *deed) (int, error) {
	id, ok := s.open.pick(d.rng)
	if !ok {
		return s.place(ctx, d)
	}
	var status string
	var total cents
	err := d.tx.QueryRow(ctx, s.in(`select status, (total * 100)::bigint from {{shop}}.orders where order_id = $1 for update`), id).Scan(&status, &total)
	if err != nil {
		return 0, err
	}
	at := s.calendar.now()
	next, e := follow(d.rng, id, status, total, at)
	if e == nil {
		s.open.remove(id)
		return 0, nil
	}
	var carrier *string
	if shipped, ok := e.(orderShipped); ok {
		carrier = &shipped.Carrier
	}
	if _, err := d.tx.Exec(ctx, s.in(`update {{shop}}.orders set status = $2, changed_at = $3, carrier = coalesce($4, carrier),
		refund = case when $2 = 'returned' then total end where order_id = $1`), id, next, at, carrier); err != nil {
		return 0, err
	}
	return 1, s.out.Write(ctx, d.tx, e)
}

// follow decides what becomes of an order; nil is nothing more.
func follow(rng *rand.Rand, id, status string, total cents, at time.Time) (next string, e outbox.Event) {
	roll := rng.IntN(100)
	switch {
	case status == "placed" && roll < 12, status == "paid" && roll < 4:
		return "cancelled", orderCancelled{OrderID: id, Reason: pick(rng, reasons), CancelledAt: at}
	case status == "placed":
		return "paid", orderPaid{OrderID: id, Amount: total.rat(), Method: pick(rng, methods), PaidAt: at}
	case status == "paid":
		return "shipped", orderShipped{OrderID: id, Carrier: pick(rng, carriers), Tracking: fmt.Sprintf("%08X", rng.Uint32()), ShippedAt: at}
	case status == "shipped":
		return "delivered", orderDelivered{OrderID: id, DeliveredAt: at}
	case status == "delivered" && roll < 15:
		return "returned", orderReturned{OrderID: id, Reason: pick(rng, reasons), Refund: total.rat(), ReturnedAt: at}
	}
	return "", nil
}

// openOrders are those that something may still become of.
type openOrders struct {
	mu  sync.Mutex // guards the following
	ids []string
}

// maxOpen bounds what is remembered: the oldest orders are left as they are.
const maxOpen = 2000

func (o *openOrders) add(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids = append(o.ids, id); len(o.ids) > maxOpen {
		o.ids = slices.Delete(o.ids, 0, maxOpen/4)
	}
}

func (o *openOrders) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.Index(o.ids, id); i >= 0 {
		o.ids = slices.Delete(o.ids, i, i+1)
	}
}

// pick prefers the oldest few, so that workers meet there.
func (o *openOrders) pick(rng *rand.Rand) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.ids) == 0 {
		return "", false
	}
	if rng.IntN(2) == 0 {
		return o.ids[rng.IntN(min(len(o.ids), 8))], true
	}
	return o.ids[rng.IntN(len(o.ids))], true
}
