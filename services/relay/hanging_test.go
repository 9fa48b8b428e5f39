package relay_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// Promise 3: exactly once in Kafka, after a broker was killed while it ended a transaction and came back without telling the
// partitions. The state is staged as partitions see it: records of a producer whose coordinator knows of no transaction.
func TestATransactionThatTheBrokerForgotIsEnded(t *testing.T) {
	t.Parallel()
	broker := harness.KafkaServer(t, harness.KafkaOptions{HeapMB: 256, Settings: map[string]string{
		"transaction.partition.verification.enable": "false", // as before Kafka 3.6; else the broker would not let it be staged
	}})
	for _, test := range []struct {
		name  string
		stage func(r *rig, f forgotten)
	}{
		{"nobody has seen anything of it", func(r *rig, f forgotten) {
			f.open(r.topic, 0, record("k", 4))
			f.open(relay.CursorTopic(r.name), 0, f.nextCursor(4))
			r.emit("k", 1)
		}},
		{"its cursor is committed", func(r *rig, f forgotten) {
			f.commit(relay.CursorTopic(r.name), 0, f.nextCursor(4))
			f.open(r.topic, 0, record("k", 4))
		}},
		{"its events are committed", func(r *rig, f forgotten) {
			f.commit(r.topic, 0, record("k", 4))
			f.open(relay.CursorTopic(r.name), 0, f.nextCursor(4))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, broker.Brokers, &memoryRegistry{})
			one := func(c *relay.Config) { c.Topics = map[string]relay.Topic{r.topic: {Partitions: 1}} }
			run := r.run(one)
			for n := range int64(3) {
				r.emit("k", n)
			}
			run.untilSeq(3)
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			test.stage(r, forgotten{r})
			run = r.run(one)
			r.emit("k", 5)
			run.untilSeq(5)
			if got := r.seqs(r.topic); !slices.Equal(got, []int64{1, 2, 3, 4, 5}) {
				t.Errorf("seqs %v are visible, want 1 to 5", got)
			}
			if err := run.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// forgotten stages transactions that no coordinator knows.
type forgotten struct{ r *rig }

func record(key string, seq int64) kmsg.Record {
	value := []byte(strconv.FormatInt(seq, 10))
	return kmsg.Record{Key: []byte(key), Value: []byte{0, 0, 0, 0, 1}, Headers: []kmsg.Header{{Key: "millrace-seq", Value: value}}}
}

// nextCursor is the cursor of the transaction after the last.
func (f forgotten) nextCursor(seq int64) kmsg.Record {
	f.r.t.Helper()
	client := f.r.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{relay.CursorTopic(f.r.name): {0: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	var newest map[string]any
	for newest == nil {
		client.PollFetches(f.r.t.Context()).EachRecord(func(k *kgo.Record) {
			if err := json.Unmarshal(k.Value, &newest); err != nil {
				f.r.t.Fatal(err)
			}
		})
	}
	newest["t"], newest["seq"] = newest["t"].(float64)+1, seq
	value, err := json.Marshal(newest)
	if err != nil {
		f.r.t.Fatal(err)
	}
	return kmsg.Record{Key: []byte("cursor"), Value: value}
}

// open leaves a record in a transaction that has no end.
func (f forgotten) open(topic string, partition int32, record kmsg.Record) {
	f.write(topic, partition, record, false)
}

// commit leaves it with a marker.
func (f forgotten) commit(topic string, partition int32, record kmsg.Record) {
	f.write(topic, partition, record, true)
}

func (f forgotten) write(topic string, partition int32, record kmsg.Record, commit bool) {
	t := f.r.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := f.r.client(kgo.TransactionalID(relay.TransactionalID(f.r.name, 0)))
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr(relay.TransactionalID(f.r.name, 0)), -1, 10000
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batchOf(record, id, epoch)
	rt.Topic, rt.Partitions = topic, append(rt.Partitions, rp)
	if meta, err := kadm.NewClient(client).Metadata(ctx, topic); err != nil {
		t.Fatal(err)
	} else {
		rt.TopicID = meta.Topics[topic].ID
	}
	req.Topics = append(req.Topics, rt)
	old := kversion.Stable()
	old.SetMaxKeyVersion(kmsg.Produce.Int16(), 11) // later ones tell the coordinator by themselves
	resp, err := req.RequestWith(ctx, f.r.client(kgo.MaxVersions(old)))
	if err == nil {
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
	}
	if err == nil && commit {
		set := kadm.TopicsSet{}
		set.Add(topic, partition)
		_, err = kadm.NewClient(client).WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: id, ProducerEpoch: epoch, Commit: true, Topics: set})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// batchOf is a transactional batch of one record.
func batchOf(record kmsg.Record, id int64, epoch int16) []byte {
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	body := record.AppendTo(nil)
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		Length: int32(49 + len(body)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: 0x10, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: id, ProducerEpoch: epoch, FirstSequence: 0, NumRecords: 1, Records: body,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}
