package sink

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/document"
	index "github.com/blevesearch/bleve_index_api"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/verify"
)

// stranger changes a store of accounts by its own means, behind the sink's back: the owner of one account becomes nobody, another is removed, a third is there twice.
type stranger struct {
	// alone says that the store belongs to one process: the sink must not be running.
	alone  bool
	tamper func(b *bank, cfg Config, change, remove, double string)
	// doubles says whether the store can hold a key twice.
	doubles bool
}

var strangers = map[string]stranger{
	"duckdb":     {alone: true, doubles: true, tamper: tamperDuckDB},
	"bleve":      {alone: true, tamper: tamperBleve},
	"postgres":   {tamper: tamperPostgres},
	"opensearch": {doubles: true, tamper: tamperOpenSearch},
	"redis":      {tamper: tamperRedis},
}

// strange has a stranger at the store, and looks whether that is found, named and repaired.
func (b *bank) strange(s *runningSink, cfg Config, events int64, again func() *runningSink) *runningSink {
	b.t.Helper()
	who := strangers[cfg.Kind]
	if who.alone {
		s.end()
	}
	who.tamper(b, cfg, "account-3", "account-4", "account-5")
	if who.alone {
		s = again()
	}
	out := s.verified(events)
	want := "account-3 columns [owner]; account-4 missing []; "
	if who.doubles {
		want += "account-5 doubled []; "
	}
	if got := columnsOf(out); got != want {
		b.t.Fatalf("got %s, want %s", got, want)
	}
	b.mend(out)
	if left := s.verified(events); left.Differences != 0 {
		b.t.Errorf("after the repair: %s", columnsOf(left))
	}
	return s
}

func columnsOf(r *verify.Result) string {
	out := ""
	for _, d := range r.Entities["account"].Differences {
		out += fmt.Sprintf("%s %s %v; ", d.Key, d.Kind, d.Columns)
	}
	return out
}

// tamperDuckDB opens the file as any program does.
func tamperDuckDB(b *bank, cfg Config, change, remove, double string) {
	b.t.Helper()
	db, err := sql.Open("duckdb", cfg.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			b.t.Error(err)
		}
	}()
	var table string
	if err := db.QueryRowContext(b.t.Context(), `select schema_name || '."' || table_name || '"' from duckdb_tables() where schema_name like 'silver%' and table_name like 'account%'`).Scan(&table); err != nil {
		b.t.Fatal(err)
	}
	for statement, key := range map[string]string{
		"update " + table + " set owner = 'nobody' where _key = ?":             change,
		"delete from " + table + " where _key = ?":                             remove,
		"insert into " + table + " select * from " + table + " where _key = ?": double,
	} {
		res, err := db.ExecContext(b.t.Context(), statement, key)
		if err != nil {
			b.t.Fatalf("%s: %v", statement, err)
		}
		if n, err := res.RowsAffected(); n != 1 || err != nil {
			b.t.Fatalf("%s: %d rows, %v", statement, n, err)
		}
	}
}

func tamperPostgres(b *bank, cfg Config, change, remove, _ string) {
	b.t.Helper()
	ctx := b.t.Context()
	conn, err := pgx.Connect(ctx, cfg.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close(ctx)
	var table string
	err = conn.QueryRow(ctx, `select format('%I.%I', schemaname, tablename) from pg_tables where schemaname like '%silver%' and tablename like 'account%'`).Scan(&table)
	if err != nil {
		b.t.Fatal(err)
	}
	for statement, key := range map[string]string{"update " + table + " set owner = 'nobody' where _key = $1": change, "delete from " + table + " where _key = $1": remove} {
		if tag, err := conn.Exec(ctx, statement, key); err != nil || tag.RowsAffected() != 1 {
			b.t.Fatalf("%s: %v %v", statement, tag, err)
		}
	}
}

// tamperBleve opens the index as any program does that links bleve. What is shown of a document is its stored field.
func tamperBleve(b *bank, cfg Config, change, remove, _ string) {
	b.t.Helper()
	ix, err := bleve.Open(filepath.Join(cfg.Path, "index"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if err := ix.Close(); err != nil {
			b.t.Error(err)
		}
	}()
	doc, err := ix.Document("account/" + change)
	if err != nil || doc == nil {
		b.t.Fatalf("%v %v", doc, err)
	}
	inner, err := ix.Advanced()
	if err != nil {
		b.t.Fatal(err)
	}
	other := document.NewDocument("account/" + change)
	doc.VisitFields(func(f index.Field) {
		if f.Name() == "_state" {
			other.AddField(document.NewTextFieldWithIndexingOptions("_state", nil, b.nobody(f.Value()), index.StoreField))
		}
	})
	if err := inner.Update(other); err != nil {
		b.t.Fatal(err)
	}
	if err := inner.Delete("account/" + remove); err != nil {
		b.t.Fatal(err)
	}
}

// nobody is an encoded state with another owner, whose name is as long.
func (b *bank) nobody(state []byte) []byte {
	b.t.Helper()
	if !bytes.Contains(state, []byte("owner-")) {
		b.t.Fatalf("%q has no owner", state)
	}
	return bytes.Replace(state, []byte("owner-"), []byte("nobody"), 1)
}

func tamperOpenSearch(b *bank, cfg Config, change, remove, double string) {
	b.t.Helper()
	index := cfg.URL + "/" + cfg.IndexPrefix + "-account-g1"
	b.ok(http.MethodPost, index+"/_update/"+change, `{"doc":{"owner":"nobody"}}`)
	b.ok(http.MethodDelete, index+"/_doc/"+remove, "")
	var doc struct {
		Source json.RawMessage `json:"_source"`
	}
	if err := json.Unmarshal(b.ok(http.MethodGet, index+"/_doc/"+double, ""), &doc); err != nil {
		b.t.Fatal(err)
	}
	b.ok(http.MethodPost, index+"/_doc?refresh=true", string(doc.Source))
}

func (b *bank) ok(method, url, body string) []byte {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode > 299 {
		b.t.Fatalf("%s %s: %s %s %v", method, url, res.Status, text, err)
	}
	return text
}

func tamperRedis(b *bank, cfg Config, change, remove, _ string) {
	b.t.Helper()
	opts, err := redis.ParseURL(cfg.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	cl := redis.NewClient(opts)
	defer func() { _ = cl.Close() }()
	names := cache.Names{Prefix: cfg.Prefix, Generation: 1}
	ctx := context.WithoutCancel(b.t.Context())
	state, err := cl.Get(ctx, names.State("account", change)).Bytes()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cl.Set(ctx, names.State("account", change), b.nobody(state), 0).Err(); err != nil {
		b.t.Fatal(err)
	}
	if n, err := cl.Del(ctx, names.State("account", remove)).Result(); n != 1 || err != nil {
		b.t.Fatalf("%d %v", n, err)
	}
}
