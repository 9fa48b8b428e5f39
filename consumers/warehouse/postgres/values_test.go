package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

// Money stays exact: every decimal is read by pgx, and by us, as what it was.
func TestDecimalsAreWrittenAsPostgresReadsThem(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	types := pgtype.NewMap()
	for range 20_000 {
		typ := projection.Type{Kind: projection.Decimal, Precision: 1 + rnd.IntN(38)}
		typ.Scale = rnd.IntN(typ.Precision + 1)
		digits := make([]byte, 1+rnd.IntN(typ.Precision))
		for i := range digits {
			digits[i] = "00123456789"[rnd.IntN(11)]
		}
		n, _ := new(big.Int).SetString(string(digits), 10)
		if rnd.IntN(2) == 0 {
			n.Neg(n)
		}
		want := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(typ.Scale)), nil))
		b, err := appendNumeric(nil, typ, want)
		if err != nil {
			t.Fatalf("seed %d: %s as %s: %v", seed, want, typ, err)
		}
		got, err := numericOf(b[4:])
		if err != nil || got.Cmp(want) != 0 {
			t.Fatalf("seed %d: %s as %s is read as %v, %v", seed, want, typ, got, err)
		}
		var theirs pgtype.Numeric
		if err := types.Scan(pgtype.NumericOID, pgtype.BinaryFormatCode, b[4:], &theirs); err != nil {
			t.Fatal(err)
		}
		value := new(big.Rat).SetInt(theirs.Int)
		pow := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(theirs.Exp, -theirs.Exp))), nil))
		if theirs.Exp < 0 {
			pow.Inv(pow)
		}
		if value.Mul(value, pow).Cmp(want) != 0 {
			t.Fatalf("seed %d: %s as %s is read by pgx as %s", seed, want, typ, value)
		}
	}
	for _, c := range []struct{ v, typ string }{{"1000", "decimal(3,0)"}, {"0.001", "decimal(12,2)"}, {"100000000000000000000000000000000000000", "decimal(38,0)"}} {
		typ, _ := projection.ParseType(c.typ)
		r, _ := new(big.Rat).SetString(c.v)
		if b, err := appendNumeric(nil, typ, r); err == nil {
			t.Errorf("%s as %s is written as %x", c.v, c.typ, b)
		}
	}
}

// Hostile bytes and odd declarations: nothing of them stops the sink, and what can be kept is kept.
func TestOddNamesKeysAndTexts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 40) // 80 bytes
	odd := declared{entity: "select", topic: "t", digest: "x", columns: []projection.Column{
		{Name: "xmin", Type: projection.Type{Kind: projection.Text}}, {Name: `a"b`, Type: projection.Type{Kind: projection.Text}},
		{Name: long, Type: projection.Type{Kind: projection.Int}}, {Name: long + "!", Type: projection.Type{Kind: projection.Int}},
		{Name: "table", Type: projection.Type{Kind: projection.JSON}},
	}}
	cfg := Config{URL: server(t), Projections: []fold.Projection{odd}}
	w := openAt(t, cfg)
	tp := consumers.TopicPartition{Topic: "t"}
	rnd := rand.New(rand.NewPCG(1, 1))
	random := func(n int) string { // which no index can compress
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('!' + rnd.IntN(90))
		}
		return string(b)
	}
	keys := []string{"short", random(longKey), random(longKey + 1), random(8 << 10)}
	keys = append(keys, storedKey(keys[3])[:longKey])
	want := map[string]fold.Stored{}
	c := fold.Commit{TopicPartition: tp, Epoch: claim(t, w, tp).Epoch, Next: int64(len(keys)), Changes: map[string][]fold.Change{}, Quarantine: map[string]int64{keys[3]: 4}}
	for i, k := range keys {
		doc := any(map[string]any{"nul\x00": "a\x00b", `\u0000`: `\u0000`, "i": int64(i)})
		for range 50 {
			doc = []any{doc}
		}
		s := fold.Stored{State: projection.State{Exists: true, Values: []any{"x\x00y", "'", int64(i), int64(-i), doc}}, Version: 1, EventID: "e", Time: noon}
		want[k] = s
		c.Changes["select"] = append(c.Changes["select"], fold.Change{Key: k, Stored: s})
		ev := consumers.Event{TopicPartition: tp, Offset: int64(i), Key: k, ID: "\x00\xff", Seq: 1, Time: time.Unix(1<<55, 0)}
		c.Events = append(c.Events, ev.WithFields(map[string]any{"a\x00": "\x00"}).WithHeaders(map[string]string{"h\x00\xff": "\x00\xff"}))
	}
	commit(t, w, c)
	got, err := w.Load(context.Background(), "select", keys)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded is\n%.300q, %v; want\n%.300q", fmt.Sprint(got), err, fmt.Sprint(want))
	}
	if q := claim(t, w, tp).Quarantined; len(q) != 1 || q[keys[3]] != 4 {
		t.Errorf("quarantined are %.100q", fmt.Sprint(q))
	}
	conn := connect(t, cfg.URL)
	row := one[string](t, conn, `SELECT concat_ws(' ', "a""b", (SELECT count(*) FROM silver_base.select_x WHERE _long_key IS NOT NULL), (SELECT string_agg(data->>0, '') FROM bronze.events), (SELECT min(headers::text) FROM bronze.events),
		(SELECT min(data::text) FROM bronze.events)) FROM silver."select" WHERE _key = 'short'`)
	if row != "' 2 {\"h\ufffd\ufffd\":\"\ufffd\ufffd\"} {\"a\ufffd\":\"\ufffd\"}" {
		t.Errorf("readers see %q", row)
	}
}

// A value that nothing can hold stops the sink instead of being tried for ever.
func TestErrorsHaveTheirClass(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "m", Detail: "s3cret"} }
	cases := []struct {
		err  error
		want consumers.Class
	}{
		{pg("08006"), consumers.Transient}, {pg("40001"), consumers.Transient}, {pg("40P01"), consumers.Transient}, {pg("57P01"), consumers.Transient}, {pg("57P02"), consumers.Transient},
		{pg("57P03"), consumers.Transient}, {pg("53300"), consumers.Transient}, {pg("53200"), consumers.Transient}, {pg("55P03"), consumers.Transient}, {pg("57014"), consumers.Transient},
		{pg("25006"), consumers.Transient}, {pg("XX000"), consumers.Transient}, {pg("P0001"), consumers.Transient}, {pg(""), consumers.Transient},
		{pg("28P01"), consumers.Systemic}, {pg("28000"), consumers.Systemic}, {pg("42501"), consumers.Systemic}, {pg("42P01"), consumers.Systemic}, {pg("3D000"), consumers.Systemic},
		{pg("53100"), consumers.Systemic}, {pg("22001"), consumers.Systemic}, {pg("22P02"), consumers.Systemic}, {pg("23505"), consumers.Systemic}, {pg("54000"), consumers.Systemic},
		{pg("XX001"), consumers.Systemic}, {pg("58030"), consumers.Systemic}, {pg("2BP01"), consumers.Systemic},
		{&net.OpError{Op: "read", Err: errors.New("connection reset")}, consumers.Transient}, {context.Canceled, consumers.Transient},
		{consumers.AsSystemic(errUnknownEntity), consumers.Systemic},
	}
	for _, c := range cases {
		err := doing(fmt.Errorf("wait: %w", c.err), "commit %d", 7)
		if got := consumers.Classify(err); got != c.want || !errors.Is(err, c.err) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v is class %d, want %d", err, got, c.want)
		}
	}
	if err := doing(pg(stateFenced), "commit"); !errors.Is(err, consumers.ErrFenced) || consumers.Classify(err) != consumers.Transient {
		t.Error(err)
	}
	if err := doing(pg(statePosition), "commit"); !errors.Is(err, consumers.ErrPosition) {
		t.Error(err)
	}
}

// A table that somebody has altered stops the sink and says where.
func TestAnAlteredTableStopsTheSink(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: server(t), Projections: []fold.Projection{orders}}
	w, conn := openAt(t, cfg), connect(t, cfg.URL)
	c := claim(t, w, tp0)
	run(t, conn, `ALTER TABLE silver_base.order_0123456789ab ADD CONSTRAINT mine CHECK (status <> 'x')`)
	err := w.Commit(context.Background(), put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil))
	if consumers.Classify(err) != consumers.Systemic || !strings.Contains(err.Error(), "constraint mine") || !strings.Contains(err.Error(), "by hand") {
		t.Errorf("got %v", err)
	}
	run(t, conn, `ALTER TABLE silver_base.order_0123456789ab DROP CONSTRAINT mine`)
	commit(t, w, put("order", tp0, c.Epoch, 0, "k", "x", nil, nil, nil, nil))
}
