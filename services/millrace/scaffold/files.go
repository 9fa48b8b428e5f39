package scaffold

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

type file struct{ name, text string }

func (s *start) files() []file {
	return []file{
		{"millrace.yaml", s.config()},
		{"schemas/" + camel(s.entity) + "Saved.avsc", s.schema("Saved", s.table.columns)},
		{"schemas/" + camel(s.entity) + "Deleted.avsc", s.schema("Deleted", s.table.columns[s.table.key:s.table.key+1])},
		{"projections/" + s.entity + ".yaml", s.projection()},
		{s.writersFile(), s.writers()},
	}
}

func (s *start) keyColumn() *Column { return &s.table.columns[s.table.key] }

func (s *start) schema(what string, columns []Column) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"type\": \"record\", \"name\": \"%s%s\", \"namespace\": \"%s\",\n  \"millrace.topic\": \"%s\", \"millrace.key\": \"%s\",\n  \"fields\": [\n",
		camel(s.entity), what, s.outbox, s.topic, s.keyColumn().Field)
	for i, c := range columns {
		comma := ","
		if i == len(columns)-1 {
			comma = ""
		}
		if c.Nullable {
			fmt.Fprintf(&b, "    {\"name\": \"%s\", \"type\": [\"null\", %s], \"default\": null}%s\n", c.Field, c.Avro, comma)
		} else {
			fmt.Fprintf(&b, "    {\"name\": \"%s\", \"type\": %s}%s\n", c.Field, c.Avro, comma)
		}
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

func (s *start) projection() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What the events of %s make of a row: a table in the warehouse, a document in the index.\nentity: %s\ntopic: %s\non:\n  %s:\n    set:\n", s.topic, s.entity, s.topic, s.saved())
	for _, c := range s.table.columns {
		fmt.Fprintf(&b, "      %s: event.%s\n", c.Field, c.Field)
	}
	fmt.Fprintf(&b, "  %s: {delete: true}\n", s.deleted())
	return b.String()
}

func (s *start) config() string {
	var renamed []string
	for _, c := range s.table.columns {
		if c.Field != c.Name {
			renamed = append(renamed, c.Field+": "+yamlText(c.Name))
		}
	}
	fields := ""
	if len(renamed) > 0 {
		fields = "\n    fields: {" + strings.Join(renamed, ", ") + "}"
	}
	return fmt.Sprintf(`kafka: {brokers: [%s]}
registry: {url: %s}
schemas: [schemas]
outboxes:
  %s:
    postgres: ${DATABASE_URL}
    topics: {%s: {partitions: 12, retention: forever}}
    retention: 7d
backfills:
  %s:
    table: %s
    key: [%s]
    type: %s%s
    rate: 2000     # rows a second
projections: [projections/*.yaml]
sinks:
  warehouse: {kind: duckdb, path: data/warehouse.duckdb, topics: [%s]}
  search: {kind: bleve, path: data/search, entities: [%s]}
`, yamlText(s.cfg.Kafka), yamlText(s.cfg.Registry), s.outbox, s.topic, s.backfill, yamlText(s.table.name), yamlText(s.keyColumn().Name), s.saved(), fields, s.topic, s.entity)
}

func yamlText(text string) string { return strconv.Quote(text) }

// body is the event's JSON, made in SQL of a row called r.
func (s *start) body() string {
	var parts []string
	for _, c := range s.table.columns {
		value := "r." + pgx.Identifier{c.Name}.Sanitize()
		switch {
		case c.text && strings.HasSuffix(c.Type, "[]"):
			value += "::text[]"
		case c.text:
			value += "::text"
		case c.Type == "bytea":
			value = "convert_from(" + value + ", 'LATIN1')"
		}
		parts = append(parts, fmt.Sprintf("'%s', %s", c.Field, value))
	}
	var chunks []string
	const most = 40 // fields a call: a function has at most 100 arguments
	for len(parts) > 0 {
		n := min(most, len(parts))
		chunks = append(chunks, "jsonb_build_object(\n    "+strings.Join(parts[:n], ",\n    ")+")")
		parts = parts[n:]
	}
	return strings.Join(chunks, "\n  || ")
}

func (s *start) writers() string {
	key := s.keyColumn()
	column := pgx.Identifier{key.Name}.Sanitize()
	fields := make([]string, len(s.table.columns))
	for i, c := range s.table.columns {
		fields[i] = fmt.Sprintf("\t\t%q: row.%s,", c.Field, camel(c.Field))
	}
	return fmt.Sprintf("# What writers of %[1]s add\n\n"+
		"Every change of a row gets an event, in the same transaction and after the statement that changes the row. All writers, before the backfill begins.\n\n"+
		"In SQL, after an INSERT or UPDATE:\n\n```sql\nselect outbox.emit('%[2]s', null, %[3]s)\nfrom %[1]s r where r.%[4]s = $1;\n```\n\n"+
		"After a DELETE:\n\n```sql\nselect outbox.emit('%[5]s', null, jsonb_build_object('%[6]s', $1%[7]s));\n```\n\n"+
		"In Go, with `github.com/millrace/millrace/outbox`:\n\n```go\n// once, at the start\ncatalogue, err := schemas.LoadDir(\"schemas\")\nout, err := outbox.New(ctx, pool, catalogue)\n\n"+
		"// in the transaction, after the INSERT or UPDATE\nerr = out.Write(ctx, tx, outbox.Record{\n\tType: %[8]q,\n\tFields: map[string]any{\n%[9]s\n\t},\n})\n\n"+
		"// after the DELETE\nerr = out.Write(ctx, tx, outbox.Record{Type: %[10]q, Fields: map[string]any{%[11]q: id}})\n```\n",
		s.table.name, s.saved(), s.body(), column, s.deleted(), key.Field, cast(key), s.saved(), strings.Join(fields, "\n"), s.deleted(), key.Field)
}

// cast gives the parameter of a key its type.
func cast(key *Column) string {
	if key.text {
		return "::text"
	}
	return "::" + key.Type
}
