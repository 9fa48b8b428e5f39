package relay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What the relay encodes is what franz-go decodes, for every codec and however the batches are cut.
func TestWireIsWhatKafkaReads(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for name, codec := range codecs {
		t.Run(string(name), func(t *testing.T) {
			compressor, err := kgo.DefaultCompressor(codec)
			if err != nil {
				t.Fatal(err)
			}
			e, w := newEncoder(compressor, func(string) int { return 4000 }), &wire{}
			for range 5 { // a wire that was used before
				w.reset()
				sent := randomRecords(random)
				for _, r := range sent {
					e.add(w, r, true)
				}
				e.sealAll(w)
				readBack(t, w, sent)
			}
		})
	}
}

func randomRecords(random *rand.Rand) []*kgo.Record {
	var all []*kgo.Record
	for range random.IntN(300) + 1 {
		r := &kgo.Record{
			Topic: fmt.Sprintf("topic-%d", random.IntN(3)), Partition: random.Int32N(4),
			Key: randomBytes(random, 40), Value: randomBytes(random, 700), Timestamp: time.UnixMilli(random.Int64N(1 << 42)),
		}
		for range random.IntN(4) {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(randomBytes(random, 9)), Value: randomBytes(random, 200)})
		}
		all = append(all, r)
	}
	return all
}

// randomBytes are nil, none, or some that compress.
func randomBytes(random *rand.Rand, most int) []byte {
	switch random.IntN(10) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	return bytes.Repeat([]byte{byte('a' + random.IntN(26))}, random.IntN(most))
}

func readBack(t *testing.T, w *wire, sent []*kgo.Record) {
	t.Helper()
	base := map[partitionKey]int64{}
	got := map[partitionKey][]*kgo.Record{}
	for i, b := range w.batches {
		at := partitionKey{b.topic, b.partition}
		b.sequence = int32(base[at])
		b.finish(7, 3)
		b.placed(base[at])
		if len(b.bytes) > 5000 {
			t.Errorf("batch %d has %d bytes", i, len(b.bytes))
		}
		raw := slices.Clone(b.bytes)
		raw[7] = byte(base[at]) // as a broker would number it
		raw[6] = byte(base[at] >> 8)
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.Partition, answer.RecordBatches, answer.HighWatermark = b.partition, raw, 1<<30
		part, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: b.topic, Partition: b.partition, Offset: base[at]}, &answer, kgo.DefaultDecompressor(), nil)
		if part.Err != nil || len(part.Records) != int(b.count) {
			t.Fatalf("batch %d of %d records: %d were read: %v", i, b.count, len(part.Records), part.Err)
		}
		got[at] = append(got[at], part.Records...)
		base[at] += int64(b.count)
	}
	for _, want := range sent {
		at := partitionKey{want.Topic, want.Partition}
		have := got[at][0]
		got[at] = got[at][1:]
		same := slices.EqualFunc(have.Headers, want.Headers, func(a, b kgo.RecordHeader) bool {
			return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && (a.Value == nil) == (b.Value == nil)
		})
		if !same || !bytes.Equal(have.Key, want.Key) || !bytes.Equal(have.Value, want.Value) || (have.Key == nil) != (want.Key == nil) ||
			(have.Value == nil) != (want.Value == nil) || !have.Timestamp.Equal(want.Timestamp) || have.Offset != want.Offset ||
			have.ProducerID != 7 || have.ProducerEpoch != 3 || !have.Attrs.IsTransactional() {
			t.Fatalf("%+v was read as %+v", want, have)
		}
	}
}
