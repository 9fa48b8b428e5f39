package opensearch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

const (
	// keepSnapshot is how long the server keeps a snapshot that nobody reads on in.
	keepSnapshot = "10m"
	// pageBytes is about how many bytes of documents are read at once.
	pageBytes = 8 << 20
	// Numbers of documents that are read at once: at first, at least and at most.
	pageFirst, pageLeast, pageMost = 200, 10, 5000
	// closeSnapshot bounds how long Close of a snapshot waits for the server, which forgets it in any case.
	closeSnapshot = 10 * time.Second
)

// Snapshot implements fold.Snapshotter: a point in time of the entities' indices, opened after the positions were read. What is committed in between is in the states
// and not in the positions.
func (s *Sink) Snapshot(ctx context.Context) (fold.Snapshot, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshot of the search indices: %w", classify(err))
	}
	return snap, nil
}

func (s *Sink) snapshot(ctx context.Context) (*snapshot, error) {
	positions, err := s.positionsOf(ctx, ours(s.names.positions()))
	if err != nil {
		return nil, err
	}
	if err := s.refreshAll(ctx); err != nil { // a point in time shows what searches find
		return nil, err
	}
	var answer struct {
		ID string `json:"pit_id"`
	}
	if err := s.client.call(ctx, http.MethodPost, path(strings.Join(s.indices(), ","))+"/_search/point_in_time?keep_alive="+keepSnapshot, nil, &answer); err != nil {
		return nil, err
	}
	if answer.ID == "" {
		return nil, fmt.Errorf("%w: no point in time is in it", errAnswer)
	}
	return &snapshot{sink: s, id: answer.ID, positions: positions}, nil
}

type snapshot struct {
	sink      *Sink
	id        string // empty once closed
	positions map[consumers.TopicPartition]int64
}

// Positions implements fold.Snapshot.
func (s *snapshot) Positions() map[consumers.TopicPartition]int64 { return s.positions }

// Exact implements fold.Snapshot.
func (s *snapshot) Exact() bool { return false }

// Close implements fold.Snapshot.
func (s *snapshot) Close() error {
	id := s.id
	if s.id = ""; id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeSnapshot)
	defer cancel()
	err := s.sink.client.call(ctx, http.MethodDelete, "/_search/point_in_time", object{"pit_id": []string{id}}, nil)
	if err != nil && !has(err, http.StatusNotFound) {
		return fmt.Errorf("close a snapshot of the search indices: %w", err)
	}
	return nil
}

// page is an answer with some documents of a snapshot.
type page struct {
	ID       string `json:"pit_id"`
	TimedOut bool   `json:"timed_out"`
	Shards   shards `json:"_shards"`
	Hits     *struct {
		Hits []struct {
			ID     string          `json:"_id"`
			Sort   json.RawMessage `json:"sort"`
			Source json.RawMessage `json:"_source"`
		} `json:"hits"`
	} `json:"hits"`
}

// States implements fold.Snapshot: the states as readers see them. Documents come by sequence number, of which each part of an index has its own, and then by key.
func (s *snapshot) States(ctx context.Context, entity string, yield func(string, fold.Stored) error) error {
	l, ok := s.sink.layouts[entity]
	if !ok {
		return consumers.AsSystemic(fmt.Errorf("read states of %s: the search sink does not hold this entity", entity))
	}
	size := pageFirst
	for after := json.RawMessage(nil); ; {
		if err := s.sink.usable(ctx); err != nil {
			return err
		}
		p, bytes, err := s.page(ctx, l, after, size)
		if err != nil {
			return fmt.Errorf("read states of %s from opensearch: %w", entity, classify(err))
		}
		for _, h := range p.Hits.Hits {
			key, state, err := l.shown(h.ID, h.Source)
			if err != nil {
				return fmt.Errorf("read states of %s from opensearch: document %q: %w", entity, h.ID, err)
			}
			if err := yield(key, state); err != nil {
				return err
			}
			after = h.Sort
		}
		if len(p.Hits.Hits) < size {
			return nil
		}
		size = min(max(size*pageBytes/max(bytes, 1), pageLeast), pageMost)
	}
}

func (s *snapshot) page(ctx context.Context, l *layout, after json.RawMessage, size int) (p page, bytes int, err error) {
	if s.id == "" {
		return p, 0, ErrClosed
	}
	question := object{
		"size": size, "track_total_hits": false, "_source": true, // whole, as it was written
		"pit":   object{"id": s.id, "keep_alive": keepSnapshot},
		"query": object{"bool": object{"filter": []object{{"term": object{"_index": l.index}}}}},
		"sort":  []object{{"_seq_no": "asc"}, {keyField: "asc"}},
	}
	if after != nil {
		question["search_after"] = after
	}
	body, err := json.Marshal(question)
	if err != nil {
		return p, 0, err
	}
	raw, err := s.sink.client.send(ctx, http.MethodPost, "/_search?allow_partial_search_results=false", "application/json", body, maxStates, nil)
	if err != nil {
		return p, 0, err
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, 0, fmt.Errorf("%w: %v", errAnswer, err)
	}
	if p.Hits == nil || p.TimedOut || p.Shards.Failed > 0 {
		return p, 0, fmt.Errorf("%w: not all documents are in it", errAnswer)
	}
	if p.ID != "" {
		s.id = p.ID
	}
	return p, len(raw), nil
}
