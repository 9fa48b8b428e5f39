package migrate

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/outbox/internal/dbtx"
)

//go:embed sql/*.sql
var sqlFiles embed.FS

// Migration is one step from an empty database to the current tables.
type Migration struct {
	// Version counts from 1 without gaps.
	Version int `json:"version"`
	// Name says what the migration is about, in a word or two.
	Name string `json:"name"`
	// Checksum is the SHA-256 of the migration's text before the schema's name is put in, in hexadecimal.
	Checksum string `json:"checksum"`
}

// String returns the name of the migration's file without its ending, such as "0001_outbox".
func (m Migration) String() string { return fmt.Sprintf("%04d_%s", m.Version, m.Name) }

type file struct {
	Migration
	sql string
}

// set is all migrations for one database schema.
type set struct {
	schema      string // as given
	quoted      string // as an identifier
	bookkeeping string // creates the schema and the table migration
	files       []file
}

func load(opts []Option) (*set, error) {
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	quoted, err := dbtx.Quote(c.schema)
	if err != nil {
		return nil, err
	}
	if c.schema == "" {
		c.schema = dbtx.DefaultSchema
	}
	s := &set{schema: c.schema, quoted: quoted}
	s.bookkeeping = s.fill(bookkeepingSQL)

	entries, err := sqlFiles.ReadDir("sql") // sorted by name
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		f, err := s.loadFile(e.Name())
		if err != nil {
			return nil, err
		}
		if f.Version != i+1 {
			return nil, fmt.Errorf("migration file %s: version %d expected", e.Name(), i+1)
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

func (s *set) loadFile(name string) (file, error) {
	text, err := sqlFiles.ReadFile("sql/" + name)
	if err != nil {
		return file{}, err
	}
	number, title, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
	version, err := strconv.Atoi(number)
	if err != nil {
		return file{}, fmt.Errorf("migration file %s: no version in its name", name)
	}
	sum := sha256.Sum256(text)
	return file{
		Migration: Migration{Version: version, Name: title, Checksum: hex.EncodeToString(sum[:])},
		sql:       s.fill(string(text)),
	}, nil
}

// fill puts the schema's name into a migration's text.
func (s *set) fill(text string) string {
	return strings.NewReplacer(
		"{{schema}}", s.quoted,
		"{{schema_str}}", strings.ReplaceAll(s.quoted, "'", "''"), // the identifier, for use in a string
		"{{schema_name}}", strings.ReplaceAll(s.schema, "'", "''"), // the bare name, for use in a string
	).Replace(text)
}

func (s *set) lockID() int64 { return dbtx.LockID("millrace migrate", s.schema) }

// bookkeepingSQL is run in the transaction of the first migration. The schema may be there already, made by an
// administrator for a role that may not create one.
const bookkeepingSQL = `do $millrace$
begin
    if not exists (select from pg_catalog.pg_namespace where nspname = '{{schema_name}}') then
        create schema {{schema}};
    end if;
end
$millrace$;

create table {{schema}}.migration (
    version    integer     primary key,
    name       text        not null,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
);
`
