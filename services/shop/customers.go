package shop

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/outbox"
)

var (
	firstNames = []string{"Ada", "Björn", "Chloé", "Dmitri", "Emeka", "Fátima", "Grace", "Hana", "Ines", "Jürgen", "Kofi", "Lucía", "Mei", "Noor", "Olga", "Priya"}
	lastNames  = []string{"Almeida", "Brown", "Castillo", "Dubois", "Eriksen", "Fischer", "García", "Haddad", "Ivanova", "Jansen", "Kim", "Lindqvist", "Moreau", "Nowak"}
	cities     = []string{"Lisboa", "Malmö", "Gdańsk", "Zürich", "Lyon", "Sevilla", "Utrecht", "Graz", "Tartu", "Galway", "Ghent", "Turin"}
)

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// register adds a customer, unless an earlier run has.
func (s *Shop) register(ctx context.Context, tx pgx.Tx, rng *rand.Rand, i int) ([]outbox.Event, error) {
	e := customerRegistered{
		CustomerID: customerID(i), Name: pick(rng, firstNames) + " " + pick(rng, lastNames), Email: "customer" + strconv.Itoa(i) + "@shop.example",
		City: pick(rng, cities), RegisteredAt: s.calendar.now(),
	}
	tag, err := tx.Exec(ctx, s.in(`insert into {{shop}}.customer (customer_id, name, email, city, registered_at) values ($1, $2, $3, $4, $5)
		on conflict do nothing`), e.CustomerID, e.Name, e.Email, e.City, e.RegisteredAt)
	if err != nil || tag.RowsAffected() == 0 {
		return nil, err
	}
	return []outbox.Event{e}, nil
}

// lockCustomer makes writers of one customer take turns.
const lockCustomer = `select name from {{shop}}.customer where customer_id = $1 for update`

// move changes where a customer lives.
func (s *Shop) move(ctx context.Context, d *deed) (int, error) {
	id, city := customerID(hot(d.rng, s.cfg.Customers)), pick(d.rng, cities)
	var name string
	if err := d.tx.QueryRow(ctx, s.in(lockCustomer), id).Scan(&name); err != nil {
		return 0, err
	}
	if _, err := d.tx.Exec(ctx, s.in(`update {{shop}}.customer set city = $2 where customer_id = $1`), id, city); err != nil {
		return 0, err
	}
	return 1, s.out.Write(ctx, d.tx, customerMoved{CustomerID: id, City: city, MovedAt: s.calendar.now()})
}

// rename changes what a customer is called. Its event is written by the function for other languages, as a program that has no
// library of ours would do it.
func (s *Shop) rename(ctx context.Context, d *deed) (int, error) {
	id, last := customerID(hot(d.rng, s.cfg.Customers)), pick(d.rng, lastNames)
	var name string
	if err := d.tx.QueryRow(ctx, s.in(lockCustomer), id).Scan(&name); err != nil {
		return 0, err
	}
	name = pick(d.rng, firstNames) + " " + last
	if _, err := d.tx.Exec(ctx, s.in(`update {{shop}}.customer set name = $2 where customer_id = $1`), id, name); err != nil {
		return 0, err
	}
	body, err := json.Marshal(map[string]string{"customer_id": id, "name": name, "renamed_at": s.calendar.now().Format(time.RFC3339Nano)})
	if err != nil {
		return 0, err
	}
	_, err = d.tx.Exec(ctx, s.emit, "shop.CustomerRenamed", body)
	return 1, err
}

// hot picks one of n so that the first are picked far more often: everybody wants the same few.
func hot(rng *rand.Rand, n int) int {
	f := rng.Float64()
	return int(f * f * f * float64(n))
}
