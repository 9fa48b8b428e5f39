//go:build cgo

package duckdb

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	duckdb "github.com/duckdb/duckdb-go/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

var (
	bronzeNames = []string{"topic", "partition", "offset", "key", "type", "event_id", "seq", "event_time", "schema_id", "headers", "data", "payload", "_headers"}
	bronzeTypes = []duckdb.Type{
		duckdb.TYPE_VARCHAR, duckdb.TYPE_INTEGER, duckdb.TYPE_BIGINT, duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR,
		duckdb.TYPE_BIGINT, duckdb.TYPE_TIMESTAMP, duckdb.TYPE_INTEGER, duckdb.TYPE_VARCHAR, duckdb.TYPE_VARCHAR, duckdb.TYPE_BLOB, duckdb.TYPE_BLOB,
	}
)

// insertBronze takes headers and data as text, which DuckDB turns into JSON faster than the driver does.
const insertBronze = `INSERT INTO bronze.events SELECT * FROM stage`

// bronzeRows are the events as they came, with their fields or without.
func bronzeRows(events []consumers.Event, fields bool) [][]driver.Value {
	rows := make([][]driver.Value, len(events))
	var text []byte
	for i := range events {
		ev := &events[i]
		var data driver.Value
		if decoded, _ := ev.Values(); fields && (decoded != nil || ev.Fields() != nil) {
			text = projection.AppendEventJSON(text[:0], ev)
			data = string(text)
		}
		var headers, exact driver.Value
		if len(ev.RecordHeaders()) > 0 {
			text = projection.AppendHeadersJSON(text[:0], ev)
			headers = string(text)
			if b := warehouse.ExactHeaders(ev.RecordHeaders()); b != nil {
				exact = b
			}
		}
		payload := ev.Payload
		if payload == nil {
			payload = []byte{}
		}
		rows[i] = []driver.Value{
			ev.Topic, ev.Partition, ev.Offset, valid(ev.Key), valid(ev.Type), valid(ev.ID), ev.Seq, ev.Time.UTC().Truncate(time.Microsecond),
			int32(ev.SchemaID), headers, data, payload, exact,
		}
	}
	return rows
}

// valid replaces what is not UTF-8, which a text cannot hold. The keys and types of events that are applied are UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func (wr *writer) appendBronze(accepted []*request) error {
	var rows [][]driver.Value
	for _, r := range accepted {
		rows = append(rows, r.bronze...)
	}
	types := make([]duckdb.TypeInfo, len(bronzeTypes))
	for i, t := range bronzeTypes {
		var err error
		if types[i], err = duckdb.NewTypeInfo(t); err != nil {
			return err
		}
	}
	if err := wr.stage(insertBronze, bronzeNames, types, rows); err != nil {
		return fmt.Errorf("append %d events to bronze: %w", len(rows), err)
	}
	return nil
}

func (wr *writer) mergeSilver(accepted []*request) error {
	byEntity := map[string][][]change{}
	for _, r := range accepted {
		if r.commit != nil && r.commit.Replace {
			if err := wr.replaceSilver(r); err != nil {
				return err
			}
			continue
		}
		for entity, changes := range r.silver {
			byEntity[entity] = append(byEntity[entity], changes)
		}
	}
	for entity, parts := range byEntity {
		t := wr.w.tables[entity]
		rows := newest(parts)
		if err := wr.stage(t.merge, t.names, t.types, rows); err != nil {
			return fmt.Errorf("merge %d states of %s: %w", len(rows), entity, err)
		}
	}
	return nil
}

// replaceSilver stores states that were folded anew, in the place of whatever stands there of the same version or a lesser one, however often.
func (wr *writer) replaceSilver(r *request) error {
	for entity, changes := range r.silver {
		t := wr.w.tables[entity]
		rows := newest([][]change{changes})
		for _, statement := range []string{t.clear, t.fill} {
			if err := wr.stage(statement, t.names, t.types, rows); err != nil {
				return fmt.Errorf("replace %d states of %s: %w", len(rows), entity, err)
			}
		}
	}
	return nil
}

// newest puts the changes of several batches together. A key that is in two of them, because somebody enlarged its topic, keeps its
// greatest version: MERGE wants each key once.
func newest(parts [][]change) [][]driver.Value {
	all := slices.Concat(parts...)
	rows := make([][]driver.Value, 0, len(all))
	if len(parts) == 1 {
		for _, c := range all {
			rows = append(rows, c.row)
		}
		return rows
	}
	at := make(map[string]int, len(all))
	for i, c := range all {
		if j, ok := at[c.key]; !ok || c.version > all[j].version {
			at[c.key] = i
		}
	}
	for i, c := range all {
		if at[c.key] == i {
			rows = append(rows, c.row)
		}
	}
	return rows
}

// stage runs a statement over rows, which it sees as the table stage.
func (wr *writer) stage(statement string, names []string, types []duckdb.TypeInfo, rows [][]driver.Value) (err error) {
	if len(rows) == 0 {
		return nil
	}
	a, err := duckdb.NewQueryAppender(wr.conn, statement, "stage", types, names)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := a.AppendRow(row...); err != nil {
			return errors.Join(err, a.Clear(), a.Close())
		}
	}
	return a.Close()
}
