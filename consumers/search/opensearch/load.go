package opensearch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/stored"
	"github.com/millrace/millrace/consumers/projection"
)

const (
	// loadKeys is the number of states asked for at once.
	loadKeys = 5000
	// maxStates bounds an answer with states, in bytes.
	maxStates = 1 << 30
)

// Load implements fold.Sink. It gets documents by their ids, as they are now: a search would not find the last ones yet.
func (s *Sink) Load(ctx context.Context, entity string, keys []string) (map[string]fold.Stored, error) {
	l, ok := s.layouts[entity]
	if !ok {
		return nil, consumers.AsSystemic(fmt.Errorf("load states of %s: the search sink does not hold this entity", entity))
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	out := make(map[string]fold.Stored, len(keys))
	for part := range slices.Chunk(keys, loadKeys) {
		if err := s.loadPart(ctx, l, part, out); err != nil {
			return nil, fmt.Errorf("load states of %s from opensearch: %w", entity, classify(err))
		}
	}
	return out, nil
}

// got is one document of an answer to _mget.
type got struct {
	ID     string `json:"_id"`
	Found  bool   `json:"found"`
	Seq    int64  `json:"_seq_no"`
	Term   int64  `json:"_primary_term"`
	Source struct {
		State heldState `json:"_state"`
	} `json:"_source"`
	Error *cause `json:"error"`
}

func (s *Sink) loadPart(ctx context.Context, l *layout, keys []string, out map[string]fold.Stored) error {
	docs, err := getAll[got](ctx, s, l, keys, stateField)
	if err != nil {
		return err
	}
	for i, key := range keys {
		state, found, err := l.state(&docs[i], key)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if found {
			out[key] = state
		}
	}
	return nil
}

// getAll gets the documents of keys, in their order, with the fields of the source that are asked for.
func getAll[T any](ctx context.Context, s *Sink, l *layout, keys []string, fields string) ([]T, error) {
	body, giveBack := s.buffer()
	defer giveBack()
	*body = append(*body, `{"ids":[`...)
	for i, key := range keys {
		if i > 0 {
			*body = append(*body, ',')
		}
		*body = appendString(*body, id(key))
	}
	*body = append(*body, "]}"...)
	reply, giveBackReply := s.buffer()
	defer giveBackReply()
	ask := path(l.target) + "/_mget?realtime=true"
	if fields != "" {
		ask += "&_source_includes=" + fields
	}
	raw, err := s.client.send(ctx, http.MethodPost, ask, "application/json", *body, maxStates, *reply)
	if err != nil {
		return nil, err
	}
	*reply = raw
	var answer struct {
		Docs []T `json:"docs"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("%w: %v", errAnswer, err)
	}
	if len(answer.Docs) != len(keys) {
		return nil, fmt.Errorf("%w: %d documents for %d keys", errAnswer, len(answer.Docs), len(keys))
	}
	return answer.Docs, nil
}

// state is the state of the key whose document was asked for. A document that holds none is a stranger's: nothing is known of the key then, not even a version, and
// the next event begins as that of a key whose document somebody removed. Verifying finds both.
func (l *layout) state(d *got, key string) (state fold.Stored, found bool, err error) {
	if err := d.other(key); err != nil || !d.Found {
		return state, false, err
	}
	state, _ = d.Source.State.decode(l.Columns)
	return state, true, nil
}

// heldState is the state in a document, as anybody may have written it.
type heldState []byte

// UnmarshalJSON takes what Encode wrote; what is no such text holds no state, and keeps nobody from reading the other documents of an answer.
func (h *heldState) UnmarshalJSON(text []byte) error {
	var state []byte
	if json.Unmarshal(text, &state) != nil {
		state = nil
	}
	*h = state
	return nil
}

// decode reads the state; false if there is none that the sink wrote.
func (h heldState) decode(columns []projection.Column) (fold.Stored, bool) {
	st, err := stored.Decode(columns, h)
	return st, err == nil
}

// other is the error of an answer that is not about the document of a key.
func (d *got) other(key string) error {
	switch {
	case d.Error != nil:
		return &statusError{status: http.StatusServiceUnavailable, kind: clean(d.Error.Type), reason: clean(d.Error.Reason)}
	case d.ID != id(key):
		return fmt.Errorf("%w: another document", errAnswer)
	}
	return nil
}
