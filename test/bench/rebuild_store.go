package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/jackc/pgx/v5"
)

// rebuiltStore is a kind of store that is rebuilt.
type rebuiltStore struct {
	title string
	lanes int
	small bool // it takes BleveEvents
	most  float64
	open  func(*rebuildRig, context.Context) (*rebuiltPlace, error)
}

// rebuiltPlace is a store for one sink.
type rebuiltPlace struct {
	lines []string // of the sink's configuration
	pid   int      // of the server; 0 if there is none
	// reader returns a question that a reader asks again and again.
	reader func(ctx context.Context, p *sinkProcess) (ask func(context.Context) error, done func(), err error)
	// holds compares what readers find with what n events make.
	holds func(ctx context.Context, p *sinkProcess, n int64) error
	drop  func() error
}

var (
	postgresRebuilt = rebuiltStore{title: "Postgres", lanes: 3, most: mostSink, open: (*rebuildRig).postgresPlace}
	duckRebuilt     = rebuiltStore{title: "DuckDB", lanes: 3, most: mostDuckDB, open: (*rebuildRig).duckPlace}
	bleveRebuilt    = rebuiltStore{title: "bleve", lanes: 1, small: true, most: mostSink, open: (*rebuildRig).blevePlace}
	searchRebuilt   = rebuiltStore{title: "OpenSearch", lanes: 3, most: mostSink, open: (*rebuildRig).searchPlace}
)

// readKey is a key that readers ask for: that of the first event.
var readKey = saleKeyText(saleKey(0))

const countSales = "SELECT count(*), sum(n)::bigint FROM silver.sale"

func (r *rebuildRig) postgresPlace(ctx context.Context) (*rebuiltPlace, error) {
	dsn, drop, err := r.database(ctx)
	if err != nil {
		return nil, err
	}
	return &rebuiltPlace{
		lines: []string{"kind: postgres", fmt.Sprintf("url: %q", dsn)}, pid: r.postgres.PID(),
		reader: func(ctx context.Context, _ *sinkProcess) (func(context.Context) error, func(), error) {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				return nil, nil, fmt.Errorf("connect to PostgreSQL: %w", err)
			}
			return func(ctx context.Context) error {
				var n int64
				return conn.QueryRow(ctx, "SELECT n FROM silver.sale WHERE _key = $1", readKey).Scan(&n)
			}, func() { conn.Close(context.WithoutCancel(ctx)) }, nil
		},
		holds: func(ctx context.Context, _ *sinkProcess, n int64) error {
			_, keys, sum := latest(n)
			return r.holds(ctx, dsn, countSales, keys, sum)
		},
		drop: func() error { drop(); return nil },
	}, nil
}

func (r *rebuildRig) duckPlace(context.Context) (*rebuiltPlace, error) {
	r.runs++
	dir := filepath.Join(r.dir, fmt.Sprintf("warehouse_%d", r.runs))
	r.report.Versions["duckdb-go"] = moduleVersion("github.com/duckdb/duckdb-go/v2")
	return &rebuiltPlace{
		lines: []string{"kind: duckdb", fmt.Sprintf("path: %q", filepath.Join(dir, "warehouse.duckdb"))},
		reader: alone(func(ctx context.Context, p *sinkProcess) error {
			_, err := p.sql(ctx, "SELECT n FROM silver.sale WHERE _key = '"+readKey+"'")
			return err
		}),
		holds: func(ctx context.Context, p *sinkProcess, n int64) error {
			rows, err := p.sql(ctx, countSales)
			if err != nil {
				return err
			}
			var got [2]int64
			if len(rows) == 1 && len(rows[0]) == 2 {
				_, err = fmt.Sscan(fmt.Sprintln(rows[0]...), &got[0], &got[1])
			}
			_, keys, sum := latest(n)
			return errors.Join(err, same(got[0], got[1], keys, sum))
		},
		drop: func() error { return removeAll(dir) },
	}, nil
}

func (r *rebuildRig) blevePlace(context.Context) (*rebuiltPlace, error) {
	r.runs++
	dir := filepath.Join(r.dir, fmt.Sprintf("search_%d", r.runs))
	r.report.Versions["bleve"] = moduleVersion("github.com/blevesearch/bleve/v2")
	return &rebuiltPlace{
		lines: []string{"kind: bleve", fmt.Sprintf("path: %q", filepath.Join(dir, "search"))},
		reader: alone(func(ctx context.Context, p *sinkProcess) error {
			return p.ask(ctx, http.MethodGet, "/search?entity=sale&limit=1&q="+readKey, nil, nil)
		}),
		holds: func(ctx context.Context, p *sinkProcess, n int64) error {
			var found struct {
				Total int64 `json:"total"`
			}
			if err := p.ask(ctx, http.MethodGet, "/search?entity=sale&limit=1", nil, &found); err != nil {
				return err
			}
			_, keys, _ := latest(n)
			return same(found.Total, 0, keys, 0)
		},
		drop: func() error { return removeAll(dir) },
	}, nil
}

func (r *rebuildRig) searchPlace(context.Context) (*rebuiltPlace, error) {
	server, err := r.openSearch()
	if err != nil {
		return nil, err
	}
	r.runs++
	prefix := fmt.Sprintf("bench%d", r.runs)
	readers := server + "/" + prefix + "-sale"
	return &rebuiltPlace{
		lines: []string{"kind: opensearch", fmt.Sprintf("url: %q", server), "index_prefix: " + prefix}, pid: r.search.PID(),
		reader: alone(func(ctx context.Context, _ *sinkProcess) error {
			return searchDo(ctx, http.MethodGet, readers+"/_search?size=1&q="+url.QueryEscape(`sale_id:"`+readKey+`"`), nil, nil)
		}),
		holds: func(ctx context.Context, _ *sinkProcess, n int64) error {
			return searchHolds(ctx, server, prefix+"-sale", n)
		},
		drop: func() error {
			return searchDo(context.Background(), http.MethodDelete, server+"/"+prefix+"*", nil, nil)
		},
	}, nil
}

// alone is a reader without a connection of its own.
func alone(ask func(context.Context, *sinkProcess) error) func(context.Context, *sinkProcess) (func(context.Context) error, func(), error) {
	return func(_ context.Context, p *sinkProcess) (func(context.Context) error, func(), error) {
		return func(ctx context.Context) error { return ask(ctx, p) }, func() {}, nil
	}
}

// sql asks the sink, which has its file to itself.
func (p *sinkProcess) sql(ctx context.Context, query string) ([][]any, error) {
	body, err := json.Marshal(map[string]any{"sql": query, "timeout": "30s"})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Rows [][]any `json:"rows"`
	}
	err = p.ask(ctx, http.MethodPost, "/sql", body, &answer)
	return answer.Rows, err
}

// ask asks the sink what its readers ask it.
func (p *sinkProcess) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, p.base+"/v1/sinks/"+p.name+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := searchPatience.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s: %.300q", method, path, resp.Status, raw)
	case answer == nil:
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
