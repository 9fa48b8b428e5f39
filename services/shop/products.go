package shop

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
)

var (
	adjectives = []string{"blue", "folding", "quiet", "wooden", "two-seated", "waterproof", "secondhand", "solar", "tiny", "enamelled"}
	things     = []string{"bicycle", "kettle", "lantern", "notebook", "umbrella", "radio", "teapot", "rucksack", "compass", "wheelbarrow"}
)

// list puts a product up for sale, unless an earlier run has.
func (s *Shop) list(ctx context.Context, tx pgx.Tx, rng *rand.Rand, i int) ([]outbox.Event, error) {
	adjective, thing := pick(rng, adjectives), pick(rng, things)
	price := cents(100 + rng.IntN(30_000))
	e := productListed{
		ProductID: productID(i), Name: adjective + " " + thing, Description: "The " + thing + " number " + strconv.Itoa(i) + ", " + adjective + ".",
		Price: price.rat(), RowVersion: 1, ListedAt: s.calendar.now(),
	}
	tag, err := tx.Exec(ctx, s.in(`insert into {{shop}}.product (product_id, name, description, price, row_version, listed_at) values ($1, $2, $3, $4, 1, $5)
		on conflict do nothing`), e.ProductID, e.Name, e.Description, price.String(), e.ListedAt)
	if err != nil || tag.RowsAffected() == 0 {
		return nil, err
	}
	return []outbox.Event{e}, nil
}

// product is a row, locked.
type product struct {
	id, name, description string
	price                 cents
	version               int64
	retired               bool
}

// lockProduct makes writers of one product take turns.
func (s *Shop) lockProduct(ctx context.Context, tx pgx.Tx, id string) (p product, err error) {
	p.id = id
	err = tx.QueryRow(ctx, s.in(`select name, description, (price * 100)::bigint, row_version, retired_at is not null
		from {{shop}}.product where product_id = $1 for update`), id).Scan(&p.name, &p.description, &p.price, &p.version, &p.retired)
	return p, err
}

// reprice changes the price of one product, or in a sale those of several.
func (s *Shop) reprice(ctx context.Context, d *deed) (int, error) {
	ids := []string{productID(hot(d.rng, s.cfg.Products))}
	if d.rng.IntN(10) == 0 {
		for range 1 + d.rng.IntN(8) {
			ids = append(ids, productID(d.rng.IntN(s.cfg.Products)))
		}
		slices.Sort(ids) // all lock in one order
		ids = slices.Compact(ids)
	}
	n := 0
	for _, id := range ids {
		p, err := s.lockProduct(ctx, d.tx, id)
		if err != nil {
			return n, err
		}
		if p.retired {
			continue
		}
		price := newPrice(p.price, d.rng)
		if _, err := d.tx.Exec(ctx, s.in(`update {{shop}}.product set price = $2, row_version = row_version + 1 where product_id = $1`), id, price.String()); err != nil {
			return n, err
		}
		if err := s.out.Write(ctx, d.tx, productPriceChanged{ProductID: id, Price: price.rat(), RowVersion: p.version + 1, ChangedAt: s.calendar.now()}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// retire takes a product off sale, or puts a retired one back. The hot ones stay.
func (s *Shop) retire(ctx context.Context, d *deed) (int, error) {
	p, err := s.lockProduct(ctx, d.tx, productID(s.cfg.Products/2+d.rng.IntN(s.cfg.Products-s.cfg.Products/2)))
	if err != nil {
		return 0, err
	}
	at := s.calendar.now()
	var retired *time.Time
	var e outbox.Event = productListed{ProductID: p.id, Name: p.name, Description: p.description, Price: p.price.rat(), RowVersion: p.version + 1, ListedAt: at}
	if !p.retired {
		retired = &at
		e = productRetired{ProductID: p.id, RowVersion: p.version + 1, RetiredAt: at}
	}
	if _, err := d.tx.Exec(ctx, s.in(`update {{shop}}.product set retired_at = $2::timestamptz, row_version = row_version + 1,
		listed_at = case when $2::timestamptz is null then $3 else listed_at end where product_id = $1`), p.id, retired, at); err != nil {
		return 0, err
	}
	return 1, s.out.Write(ctx, d.tx, e)
}

// newPrice is up to 20 % less or 25 % more. The dearer a product, the rarer it goes up, so prices stay between 1 and 300 whatever the
// number of changes.
func newPrice(old cents, rng *rand.Rand) cents {
	step := cents(80 + rng.IntN(21))
	if rng.IntN(20_000) > int(old) {
		return min(old*100/step+1, 30_000)
	}
	return max(old*step/100, 100)
}

// page is what the price page shows of a product.
type page struct {
	ProductID  string `json:"product_id"`
	Price      string `json:"price,omitempty"`
	RowVersion int64  `json:"row_version"`
	Retired    bool   `json:"retired,omitempty"`
}

// readPage reads it from the database.
func (s *Shop) readPage(ctx context.Context, id string) (page, error) {
	p := page{ProductID: id}
	err := s.cfg.Pool.QueryRow(ctx, s.in(`select price::text, row_version, retired_at is not null from {{shop}}.product where product_id = $1`), id).
		Scan(&p.Price, &p.RowVersion, &p.Retired)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, nil
	}
	return p, err
}
