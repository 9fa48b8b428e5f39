package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/services/sink"
)

// ErrUntold is returned for a store that does not tell how large it is.
var ErrUntold = errors.New("it does not tell its size")

// Stored returns how many bytes a generation of a sink takes in its store.
func Stored(ctx context.Context, cfg sink.Config, generation int) (int64, error) {
	switch cfg.Kind {
	case "duckdb":
		ext := filepath.Ext(cfg.Path)
		return storedFiles(strings.TrimSuffix(cfg.Path, ext) + numbered(".g", generation) + ext) // warehouse.duckdb, then warehouse.g2.duckdb
	case "bleve":
		return storedFiles(cfg.Path + numbered(".g", generation))
	case "postgres":
		return storedTables(ctx, cfg, generation)
	case "opensearch":
		return storedIndices(ctx, cfg, generation)
	}
	return 0, ErrUntold
}

// numbered is what the names of a generation end in: nothing for the first.
func numbered(mark string, generation int) string {
	if generation <= 1 {
		return ""
	}
	return mark + strconv.Itoa(generation)
}

// storedFiles is the size of a file with those that are named after it, such as its write-ahead log, or of all in a folder.
func storedFiles(path string) (n int64, err error) {
	for _, p := range []string{path, path + ".wal"} {
		err := filepath.WalkDir(p, func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err == nil {
				n += info.Size()
			}
			if errors.Is(err, fs.ErrNotExist) { // the store has just removed it
				return nil
			}
			return err
		})
		if err != nil && !(p != path && errors.Is(err, os.ErrNotExist)) {
			return 0, err
		}
	}
	return n, nil
}

func storedTables(ctx context.Context, cfg sink.Config, generation int) (n int64, err error) {
	pg, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return 0, errors.New("the url cannot be read")
	}
	pg.RuntimeParams["application_name"] = "millrace rebuild"
	conn, err := pgx.ConnectConfig(ctx, pg)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	names := (&warehouse{cfg: cfg}).schemas()
	for i := range names {
		names[i] += numbered("_g", generation)
	}
	return n, conn.QueryRow(ctx, `select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'm') and n.nspname = any($1)`, names).Scan(&n)
}

func storedIndices(ctx context.Context, cfg sink.Config, generation int) (n int64, err error) {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return 0, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = secure
	defer transport.CloseIdleConnections()
	o := &searchServer{cfg, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	prefix := cfg.IndexPrefix
	if prefix == "" {
		prefix = "millrace"
	}
	var rows []struct {
		Size string `json:"store.size"`
	}
	path := fmt.Sprintf("/_cat/indices/%s-*-g%d?format=json&bytes=b&h=store.size", url.PathEscape(prefix), max(generation, 1))
	if err := o.get(ctx, path, &rows); err != nil {
		return 0, err
	}
	for _, r := range rows {
		size, err := strconv.ParseInt(r.Size, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("the size of an index is %q", r.Size)
		}
		n += size
	}
	return n, nil
}
