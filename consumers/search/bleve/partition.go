package bleve

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"sync"

	"github.com/blevesearch/bleve/v2"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// partitionsKey is the internal value that lists the partitions ever claimed: bleve cannot list its internal values.
var partitionsKey = []byte("millrace/partitions")

// partition is what the index knows of one partition. mu guards record and is held over the batch that changes it.
type partition struct {
	mu     sync.Mutex
	record record
}

// record is what is stored of a partition, in one internal value.
type record struct {
	Epoch int64 `json:"epoch"`
	// Next is the offset to apply next, -1 before the first batch.
	Next int64 `json:"next"`
	// Quarantined are keys and the offset that began it.
	Quarantined map[string]int64 `json:"quarantined,omitempty"`
}

func recordKey(tp consumers.TopicPartition) []byte {
	return []byte("millrace/partition/" + tp.Topic + "/" + strconv.Itoa(int(tp.Partition)))
}

func (r record) put(batch *bleve.Batch, tp consumers.TopicPartition) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	batch.SetInternal(recordKey(tp), value)
	return nil
}

// with returns the record after a batch.
func (r record) with(c fold.Commit) record {
	if !c.Replace {
		r.Next = c.Next
	}
	if len(c.Quarantine)+len(c.Lifted) == 0 {
		return r
	}
	marks := map[string]int64{}
	maps.Copy(marks, r.Quarantined)
	for _, key := range c.Lifted {
		delete(marks, key)
	}
	for key, offset := range c.Quarantine {
		if _, already := marks[key]; !already {
			marks[key] = offset
		}
	}
	r.Quarantined = marks
	return r
}

// internals are an index, or a reader of one.
type internals interface {
	GetInternal(key []byte) ([]byte, error)
}

func readRecord(index internals, tp consumers.TopicPartition) (record, error) {
	r := record{Next: -1}
	value, err := index.GetInternal(recordKey(tp))
	if err == nil && value != nil {
		err = json.Unmarshal(value, &r)
	}
	if err != nil {
		return record{}, fmt.Errorf("read position of %s/%d: %w", tp.Topic, tp.Partition, err)
	}
	return r, nil
}

func readPartitions(index internals) (map[consumers.TopicPartition]*partition, error) {
	value, err := index.GetInternal(partitionsKey)
	if err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	out := map[consumers.TopicPartition]*partition{}
	if value == nil {
		return out, nil
	}
	var list []consumers.TopicPartition
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, fmt.Errorf("read partitions: %w", err)
	}
	for _, tp := range list {
		r, err := readRecord(index, tp)
		if err != nil {
			return nil, err
		}
		out[tp] = &partition{record: r}
	}
	return out, nil
}
