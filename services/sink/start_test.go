package sink

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/test/harness"
)

// Where a webhook begins: with the first record of the time or later, at the end if there is none yet.
func TestAStartIsAPlaceInThePartition(t *testing.T) {
	t.Parallel()
	k := harness.Kafka(t)
	topic := k.NewTopic(t, 1)
	cl := k.Client(t, kgo.DefaultProduceTopic(topic), kgo.UnknownTopicRetries(100))
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		at := noon.Add(time.Duration(i) * time.Minute)
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte("x"), Timestamp: at}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]int64{
		"2026-03-01T11:00:00Z": 0, "2026-03-01T12:03:00Z": 3, "2026-03-01T13:03:30+01:00": 4, "2026-03-01T12:09:01Z": 10, startLatest: 10,
	} {
		since, err := startTime(text, noon.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		got, err := beginsAt([]kgo.Opt{kgo.SeedBrokers(k.Brokers...)}, since)(t.Context(), consumers.TopicPartition{Topic: topic})
		if err != nil || got != want {
			t.Errorf("%s: it begins at %d, %v; want %d", text, got, err, want)
		}
	}
	if since, err := startTime("", noon); err != nil || !since.IsZero() {
		t.Errorf("by default it begins at %v, %v", since, err)
	}
}
