package opensearch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// record is a document of the index of positions as it was read. The sequence number says which version of it that was.
type record struct {
	Found       bool            `json:"found"`
	SeqNo       int64           `json:"_seq_no"`
	PrimaryTerm int64           `json:"_primary_term"`
	Source      json.RawMessage `json:"_source"`
}

// getRecord reads a document as it is now, whether or not searches find it yet.
func (s *Sink) getRecord(ctx context.Context, id string) (record, error) {
	var r record
	err := s.client.call(ctx, http.MethodGet, path(ours(s.names.positions()), "_doc", id)+"?realtime=true", nil, &r)
	if has(err, http.StatusNotFound) && !isKind(err, kindNoIndex) {
		return record{}, nil
	}
	return r, err
}

// declaration is what the record says if it is the declaration's.
func (r record) declaration() (d declaration, err error) {
	if !r.Found {
		return d, nil
	}
	if err := json.Unmarshal(r.Source, &d); err != nil {
		return d, fmt.Errorf("read the declaration: %w: %v", errAnswer, err)
	}
	return d, nil
}

// putRecord writes a document if it still is what was read; a *statusError of 409 if not.
func (s *Sink) putRecord(ctx context.Context, id string, read record, v any) error {
	condition := "op_type=create"
	if read.Found {
		condition = "if_seq_no=" + strconv.FormatInt(read.SeqNo, 10) + "&if_primary_term=" + strconv.FormatInt(read.PrimaryTerm, 10)
	}
	return s.client.call(ctx, http.MethodPut, path(ours(s.names.positions()), "_doc", id)+"?require_alias=true&"+condition, v, nil)
}

// partition is what is stored of a partition.
type partition struct {
	Epoch int64 `json:"epoch"`
	// Next is the offset to apply next, -1 before the first batch.
	Next int64 `json:"next"`
	// Quarantined are keys and the offset that began it.
	Quarantined map[string]int64 `json:"quarantined,omitempty"`
}

func (s *Sink) getPartition(ctx context.Context, tp consumers.TopicPartition) (partition, record, error) {
	p := partition{Next: -1}
	r, err := s.getRecord(ctx, partitionID(tp))
	if err == nil && r.Found {
		if err = json.Unmarshal(r.Source, &p); err != nil {
			err = fmt.Errorf("position of %s/%d: %w: %v", tp.Topic, tp.Partition, errAnswer, err)
		}
	}
	return p, r, err
}

// after is the partition after a batch.
func (p partition) after(c fold.Commit) partition {
	if !c.Replace {
		p.Next = c.Next
	}
	if len(c.Quarantine)+len(c.Lifted) == 0 {
		return p
	}
	marks := map[string]int64{}
	maps.Copy(marks, p.Quarantined)
	for _, key := range c.Lifted {
		delete(marks, key)
	}
	for key, offset := range c.Quarantine {
		if _, already := marks[key]; !already {
			marks[key] = offset
		}
	}
	p.Quarantined = marks
	return p
}

func (p partition) equal(o partition) bool {
	return p.Epoch == o.Epoch && p.Next == o.Next && maps.Equal(p.Quarantined, o.Quarantined)
}

// maxClaims bounds how often a claim is tried that others are faster with.
const maxClaims = 50

// Claim implements fold.Sink.
func (s *Sink) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	if err := s.usable(ctx); err != nil {
		return fold.Claim{}, err
	}
	for range maxClaims {
		p, read, err := s.getPartition(ctx, tp)
		if err == nil {
			p.Epoch++
			// Promise 4: of two who claim at the same time one is refused, and counts on from the other's epoch.
			err = s.putRecord(ctx, partitionID(tp), read, p)
		}
		switch {
		case err == nil:
			return fold.Claim{Epoch: p.Epoch, Next: p.Next, Quarantined: p.Quarantined}, nil
		case !has(err, http.StatusConflict):
			return fold.Claim{}, fmt.Errorf("claim %s/%d in opensearch: %w", tp.Topic, tp.Partition, classify(err))
		}
	}
	return fold.Claim{}, fmt.Errorf("claim %s/%d in opensearch: %d others were faster", tp.Topic, tp.Partition, maxClaims)
}

// maxPartitions is how many partitions a sink may have: what one answer of the server holds.
const maxPartitions = 10_000

// Positions implements fold.Sink. It searches the index of positions, after it has made all of it searchable.
func (s *Sink) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	out, err := s.positionsOf(ctx, ours(s.names.positions()))
	if err != nil {
		return nil, fmt.Errorf("read positions from opensearch: %w", classify(err))
	}
	return out, nil
}

func (s *Sink) positionsOf(ctx context.Context, index string) (map[consumers.TopicPartition]int64, error) {
	if err := s.client.call(ctx, http.MethodPost, path(index)+"/_refresh", nil, nil); err != nil {
		return nil, err
	}
	var answer struct {
		TimedOut bool   `json:"timed_out"`
		Shards   shards `json:"_shards"`
		Hits     struct {
			Total *total `json:"total"`
			Hits  []struct {
				ID     string    `json:"_id"`
				Source partition `json:"_source"`
			} `json:"hits"`
		} `json:"hits"`
	}
	question := object{"size": maxPartitions, "_source": []string{"epoch", "next"}, "query": object{"match_all": object{}}}
	if err := s.client.call(ctx, http.MethodPost, path(index)+"/_search", question, &answer); err != nil {
		return nil, err
	}
	if answer.Hits.Total == nil || answer.TimedOut || answer.Shards.Failed > 0 || len(answer.Hits.Hits) == maxPartitions {
		return nil, fmt.Errorf("%w: not all positions are in it", errAnswer)
	}
	out := map[consumers.TopicPartition]int64{}
	for _, h := range answer.Hits.Hits {
		if tp, ok := parsePartition(h.ID); ok && h.Source.Next >= 0 {
			out[tp] = h.Source.Next
		}
	}
	return out, nil
}

// shards says whether every part of an index answered.
type shards struct {
	Failed int `json:"failed"`
}
