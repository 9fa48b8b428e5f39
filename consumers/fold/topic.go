package fold

import (
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers"
)

var _ consumers.TopicFollower = (*Fold)(nil)

// topicMark is the key of the mark that says of which topic a partition's position is: no event has it, and every store keeps marks beside positions and writes both in
// one step. Its offset is the topic's fingerprint.
const topicMark = ""

// fingerprint tells a topic from another one that had its name before; 0 if the broker gives no ids. It has 48 bits, which every store keeps exactly.
func fingerprint(id kadm.TopicID) (n int64) {
	for _, b := range id[:6] { // of 122 that are random, none of them here is fixed
		n = n<<8 | int64(b)
	}
	return n
}

// Follows implements consumers.TopicFollower.
func (f *Fold) Follows(topic string, id kadm.TopicID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.topics[topic] = fingerprint(id)
}

// Recreated says whether what a store holds of a partition came from another topic than the one that has its name now.
func Recreated(c Claim, now kadm.TopicID) bool {
	was, known := c.Quarantined[topicMark]
	n := fingerprint(now)
	return known && n != 0 && was != n
}

// sameTopic takes the topic's mark out of those of keys. It returns what is to be written with the next batch: 0 if the store knows its topic.
//
// Promise 4: offsets of a topic say nothing of one that had its name before, and versions begin anew.
func sameTopic(name string, tp consumers.TopicPartition, now, next int64, marks map[string]int64) (int64, error) {
	was, known := marks[topicMark]
	delete(marks, topicMark)
	switch {
	case now == 0 || known && was == now:
		return 0, nil
	case known:
		return 0, consumers.AsSystemic(fmt.Errorf("%s/%d: %w: what the sink holds, up to offset %d, is of the former one, and nothing is applied over it. Rebuild it (millrace rebuild %s); "+
			"a webhook begins anew under another name", tp.Topic, tp.Partition, consumers.ErrTopicChanged, next, name))
	}
	return now, nil
}

// withTopic adds the topic's mark to those that a batch sets.
func withTopic(marks map[string]int64, topic int64) map[string]int64 {
	if topic == 0 {
		return marks
	}
	out := map[string]int64{topicMark: topic}
	maps.Copy(out, marks)
	return out
}
