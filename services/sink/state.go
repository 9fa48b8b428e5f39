package sink

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

// KeyState is what a sink holds of a key.
type KeyState struct {
	Entity string `json:"entity"`
	// Exists is false of a state that was deleted.
	Exists bool `json:"exists"`
	// Version, EventID and Time are those of the last event that it knows.
	Version int64     `json:"version"`
	EventID string    `json:"event_id,omitempty"`
	Time    time.Time `json:"time"`
	// Values are the columns, as documents have them.
	Values map[string]any `json:"values,omitempty"`
}

// KeyStates is the answer of StateHandler.
type KeyStates struct {
	States    []KeyState `json:"states"`
	Positions []Applied  `json:"positions"`
}

// Applied is how far a sink has applied a partition.
type Applied struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// StateHandler answers GET with ?key=KEY: what the sink holds of a key, and its positions; nil if it holds nothing. Until the store is open it answers 503.
func (s *Sink) StateHandler() http.Handler {
	if s.verified.keeper == nil {
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Query().Get("key")
		ev := consumers.Event{Key: key}
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			answer(w, http.StatusMethodNotAllowed, map[string]string{"error": "ask with GET"})
			return
		case !ev.HasKey():
			answer(w, http.StatusBadRequest, map[string]string{"error": "say which key: ?key=KEY"})
			return
		}
		out, err := s.stateOf(r, key)
		if err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, out)
	})
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func (s *Sink) stateOf(r *http.Request, key string) (*KeyStates, error) {
	cfg, ctx, release, err := s.verified.live(r.Context())
	if err != nil {
		return nil, err
	}
	defer release()
	out := &KeyStates{States: []KeyState{}, Positions: []Applied{}}
	positions, err := cfg.Store.Positions(ctx)
	if err != nil {
		return nil, err
	}
	for tp, offset := range positions {
		out.Positions = append(out.Positions, Applied{tp.Topic, tp.Partition, offset})
	}
	for _, p := range cfg.Projections {
		held, err := cfg.Store.Load(ctx, p.Entity(), []string{key})
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", p.Entity(), err)
		}
		st, ok := held[key]
		if !ok {
			continue
		}
		k := KeyState{Entity: p.Entity(), Exists: st.Exists, Version: st.Version, EventID: st.EventID, Time: st.Time}
		if st.Exists {
			k.Values = projection.Document(p.Columns(), st.Values)
		}
		out.States = append(out.States, k)
	}
	return out, nil
}
