package relay

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// threeRecords is a broker with one topic, "log", of one partition, which holds three records.
func threeRecords(t *testing.T) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client, err := newClient([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	for _, v := range []string{"a", "b", "c"} {
		r := &kgo.Record{Topic: "log", Key: []byte(cursorKey), Value: []byte(v)}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c, client
}

// shortAnswers makes the broker answer every fetch with no records, and the given last stable offset.
func shortAnswers(c *kfake.Cluster, stable int64) {
	c.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.TopicID = req.Topics[0].Topic, req.Topics[0].TopicID
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset = stable, stable
		topic.Partitions = append(topic.Partitions, p)
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
}

// Promise 3: a broker that does not hold what it said it holds has not shown the newest cursor.
func TestPromise3AnAnswerThatIsTooShortIsNotTheEnd(t *testing.T) {
	t.Parallel()
	c, client := threeRecords(t)
	logs, err := openLogs(t.Context(), client, stableEnds, "log")
	if err != nil {
		t.Fatal(err)
	}
	l := logs["log"][0]
	if value, err := l.newestCursor(t.Context()); err != nil || string(value) != "c" {
		t.Fatalf("%q, %v", value, err)
	}
	shortAnswers(c, 1)
	if value, err := l.newestCursor(t.Context()); err == nil || mustStop(err) {
		t.Errorf("%q, %v", value, err)
	}
}

// What compaction took is no error: the log is as long as it was, and empty.
func TestALogMayEndInWhatCompactionTook(t *testing.T) {
	t.Parallel()
	c, client := threeRecords(t)
	logs, err := openLogs(t.Context(), client, stableEnds, "log")
	if err != nil {
		t.Fatal(err)
	}
	shortAnswers(c, 3)
	if value, err := logs["log"][0].newestCursor(t.Context()); err != nil || value != nil {
		t.Errorf("%q, %v", value, err)
	}
}

// A partition that the brokers say nothing about does not look empty.
func TestPromise3ALogWithoutAnEndIsNotEmpty(t *testing.T) {
	t.Parallel()
	_, client := threeRecords(t)
	silent := func(context.Context, *kadm.Client, []string) (kadm.ListedOffsets, error) {
		return kadm.ListedOffsets{}, nil
	}
	if logs, err := openLogs(t.Context(), client, silent, "log"); err == nil || !strings.Contains(err.Error(), "log") {
		t.Errorf("%+v, %v", logs, err)
	}
	if _, err := openTopic(client, kadm.TopicDetail{Topic: "log"}, nil, nil); err == nil {
		t.Error("a topic without partitions was opened")
	}
}
