package opensearch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
)

var _ fold.Shower = (*Sink)(nil)

// Shown implements fold.Shower.
func (s *Sink) Shown(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	l, ok := s.layouts[entity]
	if !ok {
		return nil, consumers.AsSystemic(fmt.Errorf("load what is shown of %s: the search sink does not hold this entity", entity))
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	out := make(map[string]fold.Stored, len(keys))
	for part := range slices.Chunk(keys, loadKeys/10) { // whole documents
		if err := s.shownPart(ctx, l, part, out); err != nil {
			return nil, fmt.Errorf("load what is shown of %s from opensearch: %w", entity, classify(err))
		}
	}
	return out, nil
}

func (s *Sink) shownPart(ctx context.Context, l *layout, keys []string, out map[string]fold.Stored) error {
	docs, err := getAll[struct {
		got
		Source json.RawMessage `json:"_source"`
	}](ctx, s, l, keys, "")
	if err != nil {
		return err
	}
	for i, key := range keys {
		d := &docs[i]
		if err := d.other(key); err != nil {
			return err
		}
		if !d.Found {
			continue
		}
		if _, out[key], err = l.shown(d.ID, d.Source); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}

// shown is the state of a document as readers see it, and its key. Where somebody has changed what they see, and not the state beside it, the columns are what was made of them. A
// document without a state is all a stranger's: it has no version, and what stands in it.
func (l *layout) shown(id string, source json.RawMessage) (key string, st fold.Stored, err error) {
	var mine struct {
		State heldState       `json:"_state"`
		Key   json.RawMessage `json:"_key"`
	}
	if err := json.Unmarshal(source, &mine); err != nil {
		return "", st, fmt.Errorf("%w: %v", errAnswer, err)
	}
	if json.Unmarshal(mine.Key, &key) != nil || key == "" {
		key = id // what is too long for an id is not found again, and shows as missing
	}
	st, ours := mine.State.decode(l.Columns)
	if !ours {
		st.State, err = l.seen(st.State, []byte("{}"), source)
		return key, st, err
	}
	written, err := l.appendDocument(nil, &fold.Change{Key: key, Stored: st})
	if err != nil || bytes.Equal(written, source) {
		return key, st, err
	}
	st.State, err = l.seen(st.State, written, source)
	return key, st, err
}

// seen is what readers see of a document that is not byte for byte as it was written: others write JSON in other ways.
func (l *layout) seen(was projection.State, written, source []byte) (projection.State, error) {
	want, got := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for text, into := range map[*[]byte]*map[string]json.RawMessage{&written: &want, &source: &got} {
		if err := json.Unmarshal(*text, into); err != nil {
			return was, fmt.Errorf("%w: %v", errAnswer, err)
		}
	}
	_, bare := got[whyField] // it has no columns: they are in the state
	is := projection.State{Exists: string(got[liveField]) == "true"}
	if !is.Exists {
		return is, nil
	}
	is.Values = make([]any, len(l.Fields))
	wantSort, gotSort := fieldsOf(want[sortField]), fieldsOf(got[sortField])
	for i, f := range l.Fields {
		v, there := got[f.Name]
		switch {
		case was.Exists && (bare && !there || sameJSON(want[f.Name], v) && (bare || sameJSON(wantSort[f.Name], gotSort[f.Name]))):
			is.Values[i] = was.Values[i]
		case was.Exists && sameJSON(want[f.Name], v):
			is.Values[i] = "sorted as " + string(gotSort[f.Name])
		case there:
			is.Values[i] = readAs(l.Columns[i].Type, v)
		}
	}
	return is, nil
}

func fieldsOf(text json.RawMessage) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	_ = json.Unmarshal(text, &out) // what is none has none
	return out
}

// readAs is a value that somebody wrote into a column; what does not fit it is shown as it stands there.
func readAs(t projection.Type, text json.RawMessage) any {
	var s string
	if t.Kind == projection.Text && json.Unmarshal(text, &s) == nil {
		return s
	}
	var n int64
	if t.Kind == projection.Int && json.Unmarshal(text, &n) == nil {
		return n
	}
	var b bool
	if t.Kind == projection.Bool && json.Unmarshal(text, &b) == nil {
		return b
	}
	return "JSON " + string(text)
}

// sameJSON says whether two texts say the same. One that is missing is null.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, ok := readJSON(a)
	y, also := readJSON(b)
	return ok && also && reflect.DeepEqual(x, y)
}

// readJSON reads a text, numbers in a form that is the same for the same number.
func readJSON(text json.RawMessage) (any, bool) {
	if text == nil {
		return nil, true
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil, false
	}
	return plain(v), true
}

func plain(v any) any {
	switch x := v.(type) {
	case json.Number:
		if !small(string(x)) {
			return string(x)
		}
		if r, ok := new(big.Rat).SetString(string(x)); ok {
			return r.String()
		}
	case []any:
		for i := range x {
			x[i] = plain(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = plain(x[k])
		}
	}
	return v
}

// maxDigits bounds the numbers that are read, for 1e999999999 is short and large.
const maxDigits = 400

func small(number string) bool {
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		e, err := strconv.Atoi(number[i+1:])
		if err != nil || e > maxDigits || e < -maxDigits {
			return false
		}
	}
	return len(number) <= maxDigits
}
