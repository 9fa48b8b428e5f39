// Package goldtest is the suite that gold passes on every warehouse. The data is that of a small shop: orders and customers, committed as a sink
// would.
//
//	goldtest.go     Run, and what the tests have in common
//	shop.go         the declarations, and a random history of them
//	build.go        order, tests that halt, runs only when inputs moved, names and mistakes
//	history.go      incremental equals full
//	whole.go        readers, failures in the middle, and a process that is killed
//	example.go      the models of the shop
package goldtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// Warehouse is what the suite needs of a warehouse.
type Warehouse interface {
	fold.Sink
	warehouse.Querier
	Gold() (gold.Engine, error)
}

// Open opens an empty warehouse of its own for a test.
type Open func(t testing.TB, projections []fold.Projection) Warehouse

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *shop)
	}{
		{"ModelsAreBuiltAfterWhatTheyRead", ordered},
		{"AFailedTestKeepsTheOldTableAndHaltsDownstream", halted},
		{"EveryTestFindsItsRows", tested},
		{"AModelRunsOnlyWhenItsInputsMoved", moved},
		{"ARedriveMovesAnInput", redriven},
		{"MistakesNameFileAndLine", mistakes},
		{"NamesAreNotSQL", named},
		{"ColumnsMayChange", columns},
		{"ModelsThatAreGone", pruned},
		{"WhatMayPassIsTriedAgain", retried},
		{"IncrementalEqualsFull", histories},
		{"ARowThatWandersLeavesEveryKey", wanders},
		{"AWrongDeclarationOfKeysIsFound", wrongKeys},
		{"ReadersNeverSeeAGap", readers},
		{"ALookWaitsForNoBuild", looks},
		{"AFailureAnywhereLeavesOldOrNewWhole", failures},
		{"TwoBuildsAtATime", twoAtATime},
		{"MoneyIsExact", money},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := open(t, projections())
			engine, err := w.Gold()
			if err != nil {
				t.Fatal(err)
			}
			c.run(t, newShop(t, w, engine))
		})
	}
}

// write makes a folder of models; files are "name.sql" and its text, in pairs.
func write(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, files[i]), []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func graph(t testing.TB, files ...string) *gold.Graph {
	t.Helper()
	models, err := gold.Load(write(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	g, err := gold.NewGraph(models, []string{"order", "customer"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func runner(t testing.TB, e gold.Engine, files ...string) *gold.Runner {
	t.Helper()
	r, err := gold.New(gold.Config{Engine: e, Graph: graph(t, files...)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// build builds every model in order and returns what became of each.
func build(t testing.TB, r *gold.Runner, o gold.Options) map[string]gold.Outcome {
	t.Helper()
	out := map[string]gold.Outcome{}
	for _, m := range r.Graph().Models {
		one, err := r.Build(context.Background(), m.Name, o)
		if err != nil {
			t.Fatalf("build %s: %v", m.Name, err)
		}
		out[m.Name] = one
	}
	return out
}

// built builds every model; none may fail.
func built(t testing.TB, r *gold.Runner, o gold.Options) map[string]gold.Outcome {
	t.Helper()
	out := build(t, r, o)
	for name, one := range out {
		if one.State != "built" && one.State != "fresh" {
			t.Fatalf("%s: %+v", name, one)
		}
	}
	return out
}

func status(t testing.TB, r *gold.Runner) map[string]gold.Status {
	t.Helper()
	all, err := r.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]gold.Status{}
	for _, s := range all {
		out[s.Model] = s
	}
	return out
}

// rows asks the warehouse a question: a line a row.
func rows(t testing.TB, w warehouse.Querier, sql string) string {
	t.Helper()
	res, err := w.Query(context.Background(), sql, warehouse.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var lines []string
	for _, row := range res.Rows {
		parts := make([]string, len(row))
		for i, v := range row {
			parts[i] = fmt.Sprint(v)
		}
		lines = append(lines, strings.Join(parts, "|"))
	}
	return strings.Join(lines, "\n")
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

// faulty is an engine whose transactions fail at will.
type faulty struct {
	gold.Engine
	// exec is called before each statement, commit before the end; an error of theirs is that of the engine.
	exec   func(sql string) error
	commit func() error
	// passing says that the errors may pass by themselves.
	passing bool
}

var errStaged = errors.New("staged")

func (f *faulty) Transaction(ctx context.Context, do func(gold.Tx) error) error {
	return f.Engine.Transaction(ctx, func(tx gold.Tx) error {
		if err := do(&faultyTx{tx, f}); err != nil || f.commit == nil {
			return err
		}
		return f.commit()
	})
}

func (f *faulty) Explain(err error) (string, int, bool) {
	if errors.Is(err, errStaged) {
		return err.Error(), 0, f.passing
	}
	return f.Engine.Explain(err)
}

type faultyTx struct {
	gold.Tx
	f *faulty
}

func (tx *faultyTx) Exec(ctx context.Context, sql string, args ...string) error {
	if tx.f.exec != nil {
		if err := tx.f.exec(sql); err != nil {
			return err
		}
	}
	return tx.Tx.Exec(ctx, sql, args...)
}

func (tx *faultyTx) Publish(ctx context.Context, model, base string, columns []gold.Column) error {
	if tx.f.exec != nil {
		if err := tx.f.exec("publish " + model); err != nil {
			return err
		}
	}
	return tx.Tx.Publish(ctx, model, base, columns)
}

// Projections are the declarations that the suite's data is of.
func Projections() []fold.Projection { return projections() }

// BuildOne builds one model from its SQL.
func BuildOne(t testing.TB, e gold.Engine, name, sql string) gold.Outcome {
	t.Helper()
	return build(t, runner(t, e, name+".sql", sql), gold.Options{})[name]
}

// Place is what the environment says, in a child, or what made says, in the test itself.
func Place(variable string, made func() string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return made()
}
