package position

import (
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// record is the value of a record of the topic. Its key is topic/partition/owner.
type record struct {
	// Claim says that this is a claim, whose epoch is one more than its offset.
	Claim bool `json:"claim,omitempty"`
	// Epoch is that of the claim under which a state is written.
	Epoch int64            `json:"epoch,omitempty"`
	Next  int64            `json:"next"`
	Marks map[string]int64 `json:"marks,omitempty"`
}

// entry is what is known of a partition.
type entry struct {
	epoch int64
	next  int64 // -1: nothing was ever committed
	marks map[string]int64
	bare  bool                // nothing but claims was read of it
	names map[string]struct{} // keys of records, all owners'
}

// maxKey bounds the key of a record; topics have at most 249 bytes.
const maxKey = 512

var errKey = errors.New("not the key of a partition")

func nameOf(tp consumers.TopicPartition, owner string) string {
	return tp.Topic + "/" + strconv.Itoa(int(tp.Partition)) + "/" + owner
}

func readName(name string) (tp consumers.TopicPartition, err error) {
	topic, rest, ok1 := strings.Cut(name, "/")
	number, _, ok2 := strings.Cut(rest, "/")
	n, err := strconv.ParseInt(number, 10, 32)
	if !ok1 || !ok2 || err != nil || topic == "" || n < 0 || len(name) > maxKey {
		return tp, errKey
	}
	return consumers.TopicPartition{Topic: topic, Partition: int32(n)}, nil
}

// apply takes the next record of the topic in. Anybody may have written it: what is no record of ours changes nothing.
func apply(entries map[consumers.TopicPartition]*entry, r *kgo.Record) error {
	tp, err := readName(string(r.Key))
	if err != nil {
		return err
	}
	e := entries[tp]
	if len(r.Value) == 0 { // the name was removed
		if e != nil {
			delete(e.names, string(r.Key))
		}
		return nil
	}
	var v record
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return err
	}
	if v.Next < -1 || v.Epoch < 0 || v.Claim == (v.Epoch > 0) {
		return errors.New("neither a claim nor a state")
	}
	if e == nil {
		e = &entry{next: -1, bare: true, names: map[string]struct{}{}}
		entries[tp] = e
	}
	e.names[string(r.Key)] = struct{}{}
	e.take(v, r.Offset)
	return nil
}

func (e *entry) take(v record, offset int64) {
	switch {
	case v.Claim:
		e.epoch = max(e.epoch, offset+1)
	case v.Epoch >= e.epoch: // above it, where compaction took the claim: the owner's own state took its place
		e.epoch, e.next, e.marks, e.bare = v.Epoch, v.Next, v.Marks, false
	case e.bare:
		// A claim whose owner died before it wrote down what it took over, and compaction left the former owner's last word only, said too
		// late. It is true all the same: what it says was done, was.
		e.next, e.marks, e.bare = v.Next, v.Marks, false
	}
}

// after is the state that a commit makes of an entry.
func (e *entry) after(c fold.Commit) record {
	marks := maps.Clone(e.marks)
	if marks == nil {
		marks = map[string]int64{}
	}
	for _, key := range c.Lifted {
		delete(marks, key)
	}
	for key, offset := range c.Quarantine {
		if _, marked := marks[key]; !marked {
			marks[key] = offset
		}
	}
	return record{Epoch: c.Epoch, Next: c.Next, Marks: marks}
}
