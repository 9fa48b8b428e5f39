// Package scaffold writes the starting point for a table that is there already: schemas, a projection, a configuration with a backfill,
// and the lines that its writers add.
//
//	scaffold.go  Write: reads the table, writes the files, none of which may exist
//	table.go     the table's columns and key
//	types.go     types of PostgreSQL as types of Avro
//	files.go     what the files hold
package scaffold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Config says what is written.
type Config struct {
	// Dir is where the files go; it is made if it does not exist.
	Dir string
	// Table is the table, as SQL names it.
	Table string
	// Key is the column that tells rows apart. Default: the primary key.
	Key string
	// Entity names the entity. Default: the table's name without a plural s.
	Entity string
	// Outbox names the outbox. Default: the database schema of the table, "app" for public.
	Outbox string
	// Kafka and Registry stand in millrace.yaml.
	Kafka, Registry string
}

// Result is what was written.
type Result struct {
	Table  string `json:"table"`
	Entity string `json:"entity"`
	Topic  string `json:"topic"`
	// Saved and Deleted are the types of the two events.
	Saved   string   `json:"saved"`
	Deleted string   `json:"deleted"`
	Columns []Column `json:"columns"`
	Files   []string `json:"files"`
	// Backfill is the name of the backfill, Writers the file with the lines for the application.
	Backfill string `json:"backfill"`
	Writers  string `json:"writers"`
}

// ErrExists says that a file is there already; nothing was written then.
var ErrExists = errors.New("is there already: nothing was written; name another folder")

var (
	entityName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)
	outboxName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)
)

// Write reads the table and writes the files.
func Write(ctx context.Context, conn *pgx.Conn, cfg Config) (Result, error) {
	t, err := readTable(ctx, conn, cfg.Table, cfg.Key)
	if err != nil {
		return Result{}, err
	}
	s, err := newStart(cfg, t)
	if err != nil {
		return Result{}, err
	}
	files := s.files()
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(cfg.Dir, f.name)); err == nil {
			return Result{}, fmt.Errorf("%s %w", filepath.Join(cfg.Dir, f.name), ErrExists)
		}
	}
	out := Result{Table: t.name, Entity: s.entity, Topic: s.topic, Saved: s.saved(), Deleted: s.deleted(), Columns: t.columns, Backfill: s.backfill,
		Writers: filepath.Join(cfg.Dir, s.writersFile())}
	for _, f := range files {
		path := filepath.Join(cfg.Dir, f.name)
		if err := create(path, f.text); err != nil {
			return out, err
		}
		out.Files = append(out.Files, path)
	}
	return out, nil
}

// create writes a file that does not exist.
func create(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// start is everything the files are made of.
type start struct {
	cfg                             Config
	table                           *table
	entity, outbox, topic, backfill string
}

func newStart(cfg Config, t *table) (*start, error) {
	s := &start{cfg: cfg, table: t, entity: cfg.Entity, outbox: cfg.Outbox}
	if s.entity == "" {
		s.entity = singular(plain(t.bare))
	}
	if s.outbox == "" {
		if s.outbox = plain(t.schema); t.schema == "public" {
			s.outbox = "app"
		}
	}
	if !entityName.MatchString(s.entity) {
		return nil, fmt.Errorf("%q is no name of an entity (lower case letters, digits and _): give one with --entity", s.entity)
	}
	if !outboxName.MatchString(s.outbox) {
		return nil, fmt.Errorf("%q is no name of an outbox (lower case letters, digits and _, 31 at most): give one with --name", s.outbox)
	}
	s.backfill = s.entity
	s.topic = s.outbox + "." + s.entity
	return s, nil
}

func (s *start) saved() string   { return s.outbox + "." + camel(s.entity) + "Saved" }
func (s *start) deleted() string { return s.outbox + "." + camel(s.entity) + "Deleted" }

func (s *start) writersFile() string { return "WRITERS-" + s.entity + ".md" }

// plain is a name in lower case letters, digits and underscores.
func plain(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			b.WriteRune(r)
		} else if !strings.HasSuffix(b.String(), "_") {
			b.WriteByte('_')
		}
	}
	return strings.TrimRight(b.String(), "_")
}

func singular(name string) string {
	switch {
	case strings.HasSuffix(name, "ies") && len(name) > 4:
		return strings.TrimSuffix(name, "ies") + "y"
	case strings.HasSuffix(name, "ss"), strings.HasSuffix(name, "us"), len(name) < 3:
		return name
	}
	return strings.TrimSuffix(name, "s")
}

func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
