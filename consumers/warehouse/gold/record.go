package gold

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Record is what the warehouse remembers of a model. It is written in the transaction of the rows that it tells of.
type Record struct {
	// Digest is that of the file that was built.
	Digest string `json:"digest"`
	// Build counts the builds that changed something for readers, from 1; 0 if none has succeeded yet.
	Build int64 `json:"build"`
	// Base is the table behind the view, and Seen are the tables that remember which version of each row of an input was built from.
	Base    string            `json:"base,omitempty"`
	Seen    map[string]string `json:"seen,omitempty"`
	Columns []Column          `json:"columns,omitempty"`
	Key     []string          `json:"key,omitempty"`
	Rows    int64             `json:"rows"`
	// Mode is how the last build went: "full" or "incremental".
	Mode    string        `json:"mode,omitempty"`
	BuiltAt time.Time     `json:"built_at,omitzero"`
	Took    time.Duration `json:"took,omitempty"` // in nanoseconds
	// Inputs is what each input was when it was built from.
	Inputs map[string]Input `json:"inputs,omitempty"`
	// Failure is the last attempt, if that did not succeed.
	Failure *Failure `json:"failure,omitempty"`
}

// Input is where an input stands. Two of one input are equal if and only if it has not changed.
type Input struct {
	// Declared tells apart the declarations of an entity, and the tables made for them.
	Declared string `json:"declared,omitempty"`
	// Positions are the offsets up to which the input holds its topics, by topic and partition; of a model those that it was built from.
	Positions map[string]map[string]int64 `json:"positions,omitempty"`
	// Marks tells of the quarantined keys of the topics: to redrive one changes states and no position.
	Marks string `json:"marks,omitempty"`
	// Build is that of a model.
	Build int64 `json:"build,omitempty"`
}

func (i Input) equal(other Input) bool {
	if i.Build > 0 { // a model may have come further without a change of its rows
		return i.Build == other.Build
	}
	return i.Declared == other.Declared && i.Marks == other.Marks && i.Build == other.Build &&
		maps.EqualFunc(i.Positions, other.Positions, maps.Equal)
}

func sameInputs(a, b map[string]Input) bool { return maps.EqualFunc(a, b, Input.equal) }

// Failure is an attempt that did not succeed. What was built before is still served.
type Failure struct {
	// At is when it was tried last, Since when it failed first after the last success.
	At    time.Time `json:"at"`
	Since time.Time `json:"since"`
	Tries int       `json:"tries"`
	// Error is for people. It names the file, and the line where one is known.
	Error string `json:"error"`
	// Transient says that it may pass by itself, and is tried again without being asked.
	Transient bool `json:"transient,omitempty"`
	// Tests are those that did not hold.
	Tests []TestFailure `json:"tests,omitempty"`
	// Digest and Inputs are what was tried.
	Digest string           `json:"digest"`
	Inputs map[string]Input `json:"inputs,omitempty"`
}

// TestFailure is a test that does not hold.
type TestFailure struct {
	Test string `json:"test"`
	// Rows is how many rows fail it.
	Rows int64 `json:"rows"`
	// Examples are a few of them.
	Examples []string `json:"examples"`
}

// survey is what is known at one moment: every record, and every input of silver and bronze.
type survey struct {
	records map[string]*Record
	inputs  map[string]Input // those of silver and bronze
}

// look reads a survey.
func (r *Runner) look(ctx context.Context, tx Tx) (*survey, error) {
	s := &survey{records: map[string]*Record{}, inputs: map[string]Input{}}
	rows, err := tx.Rows(ctx, "SELECT model, record FROM "+r.engine.Meta("gold"))
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		rec := &Record{}
		if err := json.Unmarshal([]byte(row[1]), rec); err != nil {
			return nil, fmt.Errorf("read the record of model %s: %w", row[0], err)
		}
		s.records[row[0]] = rec
	}
	positions, marks, err := r.positions(ctx, tx)
	if err != nil {
		return nil, err
	}
	entities, err := tx.Rows(ctx, "SELECT entity, topic, digest, base_table FROM "+r.engine.Meta("entities"))
	if err != nil {
		return nil, err
	}
	for _, e := range entities {
		topic := e[1]
		s.inputs["silver."+e[0]] = Input{Declared: e[2] + " " + e[3], Positions: only(positions, topic), Marks: marks[topic]}
	}
	s.inputs["bronze.events"] = Input{Positions: positions}
	return s, nil
}

// positions reads how far each topic is applied, and what tells its quarantine apart. At one position keys only leave quarantine, or stand in
// it further on; so their number and the sum of where they stand never come back.
func (r *Runner) positions(ctx context.Context, tx Tx) (all map[string]map[string]int64, marks map[string]string, err error) {
	rows, err := tx.Rows(ctx, "SELECT topic, CAST(partition AS VARCHAR), CAST(next AS VARCHAR) FROM "+r.engine.Meta("positions")+" WHERE next >= 0")
	if err != nil {
		return nil, nil, err
	}
	all, marks = map[string]map[string]int64{}, map[string]string{}
	for _, row := range rows {
		var next int64
		if _, err := fmt.Sscan(row[2], &next); err != nil {
			return nil, nil, fmt.Errorf("read the position of %s/%s: %w", row[0], row[1], err)
		}
		if all[row[0]] == nil {
			all[row[0]] = map[string]int64{}
		}
		all[row[0]][row[1]] = next
	}
	rows, err = tx.Rows(ctx, `SELECT topic, CAST(count(*) AS VARCHAR), CAST(sum("offset") AS VARCHAR) FROM `+r.engine.Meta("quarantine")+` GROUP BY topic`)
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		marks[row[0]] = row[1] + "/" + row[2]
	}
	return all, marks, nil
}

func only(positions map[string]map[string]int64, topic string) map[string]map[string]int64 {
	if positions[topic] == nil {
		return nil
	}
	return map[string]map[string]int64{topic: positions[topic]}
}

// inputsOf are the inputs of a model as they are now. missing is the first that is not there yet.
func (s *survey) inputsOf(m *Model) (now map[string]Input, missing string) {
	now = map[string]Input{}
	for _, name := range m.Inputs {
		if up, ok := upstream(name); ok {
			rec := s.records[up]
			if rec == nil || rec.Build == 0 {
				return now, name
			}
			now[name] = Input{Build: rec.Build, Positions: s.positions(rec)}
			continue
		}
		in, ok := s.inputs[name]
		if !ok {
			return now, name
		}
		now[name] = in
	}
	return now, ""
}

// positions are the offsets that a build holds for sure: the least of its inputs'. An input that is a model may have come further since, without
// a change of its rows.
func (s *survey) positions(rec *Record) map[string]map[string]int64 {
	inputs := maps.Clone(rec.Inputs)
	for name, in := range inputs {
		up, ok := upstream(name)
		if now := s.records[up]; ok && now != nil && now.Build == in.Build {
			inputs[name] = Input{Positions: s.positions(now)}
		}
	}
	return least(inputs)
}

func least(inputs map[string]Input) map[string]map[string]int64 {
	out := map[string]map[string]int64{}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		for topic, parts := range inputs[name].Positions {
			if out[topic] == nil {
				out[topic] = maps.Clone(parts)
				continue
			}
			for p, next := range parts {
				if old, ok := out[topic][p]; !ok || next < old {
					out[topic][p] = next
				}
			}
		}
	}
	return out
}

// behind is how many events the sink has applied since a build, of the topics that it follows.
func (s *survey) behind(rec *Record) int64 {
	var n int64
	built, now := s.positions(rec), s.inputs["bronze.events"].Positions
	for topic, parts := range built {
		for p, next := range now[topic] {
			n += max(0, next-parts[p])
		}
	}
	return n
}

// save writes the record of a model.
func (r *Runner) save(ctx context.Context, tx Tx, model string, rec *Record) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := tx.Exec(ctx, "DELETE FROM "+r.engine.Meta("gold")+" WHERE model = $1", model); err != nil {
		return err
	}
	return tx.Exec(ctx, "INSERT INTO "+r.engine.Meta("gold")+" (model, record) VALUES ($1, $2)", model, string(raw))
}
