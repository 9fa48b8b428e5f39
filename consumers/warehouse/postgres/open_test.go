package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

// wantRefused opens a warehouse that cannot be opened, for a reason that no retry helps against.
func wantRefused(t *testing.T, cfg Config, want error, text string) {
	t.Helper()
	w, err := Open(cfg)
	if err == nil {
		_ = w.Close()
		t.Fatalf("it was opened; want %q", text)
	}
	if want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) || consumers.Classify(err) != consumers.Systemic {
		t.Errorf("got %v, class %d; want %v with %q, systemic", err, consumers.Classify(err), want, text)
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error holds the password: %v", err)
	}
}

func TestWrongConfigurationsNameTheField(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	with := func(change func(*url.URL)) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return u.String()
	}
	column := func(name string, k projection.Kind) []fold.Projection {
		return []fold.Projection{declared{entity: "x", topic: "t", digest: "d", columns: []projection.Column{{Name: name, Type: projection.Type{Kind: k}}}}}
	}
	cases := map[string]Config{
		"URL: the connection string":   {},
		"URL: the connection":          {URL: "postgres://me:s3cret@h:port/x"},
		"Schema: \"Shop\"":             {URL: dsn, Schema: "Shop"},
		"Bronze: \"all\"":              {URL: dsn, Bronze: "all"},
		"cannot be negative":           {URL: dsn, Connections: -1},
		"two projections":              {URL: dsn, Projections: []fold.Projection{orders, orders}},
		"does not begin with _":        {URL: dsn, Schema: "c1", Projections: column("_key", projection.Int)},
		"decimal(0,0): the precision":  {URL: dsn, Schema: "c2", Projections: column("d", projection.Decimal)},
		"a list needs the type":        {URL: dsn, Schema: "c3", Projections: column("l", projection.List)},
		"has no SQL type":              {URL: dsn, Schema: "c4", Projections: column("k", 99)},
		"create it":                    {URL: with(func(u *url.URL) { u.Path = "/nowhere" })},
		"the server refuses the user;": {URL: with(func(u *url.URL) { u.User = url.UserPassword("nobody_known", "s3cret") })},
	}
	for text, cfg := range cases {
		t.Run(text, func(t *testing.T) { wantRefused(t, cfg, nil, text) })
	}
}

// A server that is away may come back.
func TestAServerThatIsAwayMayComeBack(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{URL: "postgres://me:s3cret@127.0.0.1:1/x"})
	if err == nil || consumers.Classify(err) != consumers.Transient || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

func TestAChangedDeclarationNeedsARebuild(t *testing.T) {
	t.Parallel()
	url := server(t)
	open := func(p ...fold.Projection) *Warehouse { return openAt(t, Config{URL: url, Projections: p}) }
	was, before := open(orders), consumers.TopicPartition{Topic: "before"}
	commit(t, was, fold.Commit{TopicPartition: before, Epoch: claim(t, was, before).Epoch, From: 0, Next: 1})
	open(orders) // the same again
	changed := orders
	changed.digest = "fedcba9876543210"
	wantRefused(t, Config{URL: url, Projections: []fold.Projection{changed}}, ErrRebuild, "as another generation")

	refunds := declared{entity: "refund", topic: orders.topic, digest: "1", columns: orders.columns}
	w := open(orders, refunds) // nothing of the topic has gone by
	commit(t, w, fold.Commit{TopicPartition: tp0, Epoch: claim(t, w, tp0).Epoch, From: 0, Next: 5})
	returns := declared{entity: "return", topic: orders.topic, digest: "1", columns: orders.columns}
	wantRefused(t, Config{URL: url, Projections: []fold.Projection{orders, refunds, returns}}, ErrRebuild, "entity return")
	other := declared{entity: "return", topic: "another.topic", digest: "1", columns: orders.columns}
	open(orders, other) // one entity fewer, and one of a topic not begun
}

// Promise 4: an entity that was not declared while its topic went on has missed events; its states are not gone on from.
func TestPromise4AnEntityThatWasLeftOutNeedsARebuild(t *testing.T) {
	t.Parallel()
	url := server(t)
	returns := declared{entity: "return", topic: orders.topic, digest: "1", columns: orders.columns}
	visit := func(from, next int64, p ...fold.Projection) {
		t.Helper()
		w := openAt(t, Config{URL: url, Projections: p})
		c := claim(t, w, tp0)
		if next > from {
			commit(t, w, fold.Commit{TopicPartition: tp0, Epoch: c.Epoch, From: from, Next: next})
		}
	}
	visit(0, 5, orders, returns)
	visit(5, 5, orders) // left out, and nothing goes by
	visit(5, 7, orders, returns)
	visit(7, 9, orders) // left out, and two events go by
	wantRefused(t, Config{URL: url, Projections: []fold.Projection{orders, returns}}, ErrRebuild, "entity return")
	visit(9, 9, orders) // which is still as it was
	wantRefused(t, Config{URL: url, Projections: []fold.Projection{orders, returns}}, ErrRebuild, "not declared for a while")
}

// Many processes may begin at the same moment.
func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	url := server(t)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			w, err := Open(Config{URL: url, Projections: []fold.Projection{orders}})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = w.Close() }()
			tp := consumers.TopicPartition{Topic: orders.topic, Partition: int32(i)}
			c, err := w.Claim(context.Background(), tp)
			if err == nil {
				err = w.Commit(context.Background(), put("order", tp, c.Epoch, 0, fmt.Sprint("k", i), "x", nil, nil, nil, nil))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := one[int](t, connect(t, url), `SELECT count(*) FROM silver."order"`); n != 6 {
		t.Errorf("%d rows", n)
	}
}

// A role that may not make schemas is enough where they have been made for it.
func TestARoleWithoutRightsOnTheDatabase(t *testing.T) {
	t.Parallel()
	dsn := server(t)
	conn := connect(t, dsn)
	run(t, conn, "CREATE ROLE sink_only LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	t.Cleanup(func() { run(t, conn, "DROP OWNED BY sink_only; DROP ROLE sink_only") })
	mine := strings.Replace(dsn, "postgres@", "sink_only@", 1)
	wantRefused(t, Config{URL: mine}, nil, "the user lacks a right")
	for _, s := range []string{"millrace", "bronze", "bronze_base", "silver", "silver_base"} {
		run(t, conn, "CREATE SCHEMA "+s+" AUTHORIZATION sink_only")
	}
	w := openAt(t, Config{URL: mine, Projections: []fold.Projection{orders}})
	commit(t, w, put("order", tp0, claim(t, w, tp0).Epoch, 0, "k", "x", nil, nil, nil, nil))
	openAt(t, Config{URL: mine, Projections: []fold.Projection{orders}})
}

func TestAfterCloseNothingGoesThrough(t *testing.T) {
	t.Parallel()
	w := openAt(t, Config{URL: server(t), Projections: []fold.Projection{orders}})
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, claim := w.Claim(ctx, tp0)
	_, load := w.Load(ctx, "order", []string{"x"})
	_, positions := w.Positions(ctx)
	_, query := w.Query(ctx, "select 1", warehouse.Limits{})
	for what, err := range map[string]error{"claim": claim, "load": load, "positions": positions, "query": query, "commit": w.Commit(ctx, fold.Commit{})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
