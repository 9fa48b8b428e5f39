package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
	"github.com/millrace/millrace/consumers/warehouse/gold/goldtest"
)

// prefixed has queries that name schemas find those of a warehouse whose schemas have a prefix.
type prefixed struct {
	*Warehouse
	prefix string
}

func (p prefixed) Query(ctx context.Context, sql string, l warehouse.Limits) (*warehouse.Result, error) {
	return p.Warehouse.Query(ctx, strings.NewReplacer("gold.", p.prefix+"_gold.", "silver.", p.prefix+"_silver.").Replace(sql), l)
}

func TestGold(t *testing.T) {
	url := server(t)
	goldtest.Run(t, func(t testing.TB, projections []fold.Projection) goldtest.Warehouse {
		prefix := unique(t)
		return prefixed{openAt(t, Config{URL: url, Schema: prefix, Projections: projections, MaxQueries: 8}), prefix}
	})
}

const (
	goldURL    = "MILLRACE_GOLD_URL"
	goldPrefix = "MILLRACE_GOLD_PREFIX"
)

// A process that is killed in the middle of a build leaves the old table or the new one, whole.
func TestKilledBuildsOfGoldLeaveOldOrNewWhole(t *testing.T) {
	url := goldtest.Place(goldURL, func() string { return server(t) })
	prefix := goldtest.Place(goldPrefix, func() string { return unique(t) })
	goldtest.KillAndLook(t, "TestKilledBuildsOfGoldLeaveOldOrNewWhole", []string{goldURL + "=" + url, goldPrefix + "=" + prefix}, func(t testing.TB) (goldtest.Warehouse, func()) {
		return prefixed{openAt(t, Config{URL: url, Schema: prefix, Projections: goldtest.Projections()}), prefix}, func() {}
	})
}

// Grants, settings and other people's views outlive a build; what stands in the way of new columns is named.
func TestWhatOthersMadeOfAViewOfGoldStays(t *testing.T) {
	url, prefix := server(t), unique(t)
	w := openAt(t, Config{URL: url, Schema: prefix, Projections: goldtest.Projections()})
	e, err := w.Gold()
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	role := prefix + "_reader"
	run(t, conn, "CREATE ROLE "+role)
	t.Cleanup(func() { run(t, conn, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	view := prefix + "_gold.m"
	build := func(sql string) gold.Outcome { return goldtest.BuildOne(t, e, "m", sql) }
	if out := build("select 1 as a, 2 as b from {{ silver.order }}"); out.State != "built" {
		t.Fatalf("%+v", out)
	}
	run(t, conn, "GRANT SELECT ON "+view+" TO "+role)
	run(t, conn, "ALTER VIEW "+view+" SET (security_barrier = true)")
	run(t, conn, "CREATE VIEW "+prefix+"_gold.others AS SELECT a FROM "+view)
	kept := func() {
		t.Helper()
		if !one[bool](t, conn, "SELECT has_table_privilege($1, $2, 'SELECT')", role, view) {
			t.Error("the grant is gone")
		}
		if got := one[string](t, conn, "SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE oid = to_regclass($1)", view); got != "security_barrier=true" {
			t.Errorf("the settings are %q", got)
		}
	}
	if out := build("select 1 as a, 2 as b, 3 as c from {{ silver.order }}"); out.State != "built" {
		t.Fatalf("%+v", out)
	}
	kept()
	out := build("select 'x' as c from {{ silver.order }}")
	if out.State != "failed" || !strings.Contains(out.Error, "others depends on view "+prefix+"_gold.m") {
		t.Errorf("%+v", out)
	}
	run(t, conn, "DROP VIEW "+prefix+"_gold.others")
	if out := build("select 'x' as c from {{ silver.order }}"); out.State != "built" {
		t.Fatalf("%+v", out)
	}
	kept()
}

// A long query on a view holds up a build with other columns, and no other reader for long.
func TestALongQueryOfAViewOfGoldHoldsUpNoReader(t *testing.T) {
	url, prefix := server(t), unique(t)
	w := openAt(t, Config{URL: url, Schema: prefix, Projections: goldtest.Projections()})
	e, err := w.Gold()
	if err != nil {
		t.Fatal(err)
	}
	goldtest.BuildOne(t, e, "m", "select 1 as a from {{ silver.order }}")
	long := connect(t, url)
	run(t, long, "BEGIN")
	run(t, long, "SELECT * FROM "+prefix+"_gold.m")
	done := make(chan gold.Outcome, 1)
	go func() { done <- goldtest.BuildOne(t, e, "m", "select 2 as a, 3 as b from {{ silver.order }}") }()
	watch := connect(t, url)
	until(t, watch, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = to_regclass($1))", prefix+"_gold.m")
	run(t, watch, "SELECT * FROM "+prefix+"_gold.m") // it waits for the patience of the build, not for the long query
	select {
	case out := <-done:
		t.Fatalf("the build did not wait for the reader: %+v", out)
	default:
	}
	run(t, long, "COMMIT")
	if out := <-done; out.State != "built" {
		t.Errorf("%+v", out)
	}
}

func TestTwoColumnsOfAModelCannotHaveOneName(t *testing.T) {
	url, prefix := server(t), unique(t)
	e, err := openAt(t, Config{URL: url, Schema: prefix, Projections: goldtest.Projections()}).Gold()
	if err != nil {
		t.Fatal(err)
	}
	out := goldtest.BuildOne(t, e, "m", `select 1 as a, 2 as "A" from {{ silver.order }}`)
	if out.State != "failed" || !strings.Contains(out.Error, "two columns are called A") {
		t.Errorf("%+v", out)
	}
}

func TestGoldOfAWarehouseThatIsNotThere(t *testing.T) {
	e, err := OpenGold(Config{URL: server(t), Schema: unique(t)})
	if err != nil {
		t.Fatal(err)
	}
	err = e.Transaction(context.Background(), func(gold.Tx) error { return nil })
	if text, _, transient := e.Explain(err); err == nil || !strings.Contains(text, "its sink makes them") || transient {
		t.Errorf("got %v", err)
	}
}

func TestTheModelsOfTheShop(t *testing.T) {
	url := server(t)
	goldtest.Example(t, "../../../schemas/shop", func(t testing.TB, projections []fold.Projection) goldtest.Warehouse {
		prefix := unique(t)
		return prefixed{openAt(t, Config{URL: url, Schema: prefix, Projections: projections}), prefix}
	})
}
