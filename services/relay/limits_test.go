package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestLimitsOfTopics(t *testing.T) {
	cfg := Config{Outbox: "test"}.WithDefaults()
	l := newLimits(cfg, map[string]int{})
	l.set("small", 5000)
	l.set("large", 50_000_000)
	l.set("nothing", 0)
	l.set(parkedTopic("test"), brokerBatchBytes)
	for topic, want := range map[string][2]int{ // largest batch, largest record
		"unknown": {cfg.MaxRecordBytes + batchOverhead, cfg.MaxRecordBytes},
		"large":   {cfg.MaxRecordBytes + batchOverhead, cfg.MaxRecordBytes},
		"small":   {5000, 5000 - batchOverhead}, "nothing": {minBatchBytes, minBatchBytes - batchOverhead},
		parkedTopic("test"): {brokerBatchBytes, brokerBatchBytes - batchOverhead},
	} {
		if got := [2]int{l.batch(topic), l.record(topic)}; got != want {
			t.Errorf("%s: %v, want %v", topic, got, want)
		}
	}
}

// What a topic refused is not sent to it again, also when its limit may not be read, or is not what refuses.
func TestPromise7ALimitThatCannotBeReadIsLearned(t *testing.T) {
	cfg := Config{Outbox: "test"}.WithDefaults()
	refusals := map[string]int{}
	var sizes []int
	for range 3 { // sessions
		l := newLimits(cfg, refusals)
		sizes = append(sizes, l.batch("t"))
		l.learn(fmt.Errorf("publish: %w", refused(&kgo.Record{Topic: "t"}, kerr.MessageTooLarge)))
	}
	if got, want := fmt.Sprint(sizes), "[1001024 500512 250256]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l := newLimits(cfg, refusals)
	if l.set("t", 4000); l.batch("t") != 4000 {
		t.Errorf("the topic's own limit is 4000, kept to is %d", l.batch("t"))
	}
	l.learn(refused(&kgo.Record{Topic: "u"}, kerr.ProducerFenced))
	if _, ok := refusals["u"]; ok {
		t.Error("learned from an error that says nothing about sizes")
	}
}

func TestARefusedRecordIsNamed(t *testing.T) {
	r := &kgo.Record{Topic: "shop.orders", Key: []byte("k-17"), Headers: []kgo.RecordHeader{{Key: headerID, Value: []byte("0f8f")}}}
	a := newAcks(1)
	a.done(r, kerr.MessageTooLarge)
	err := a.wait(t.Context())
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Error(err)
	}
	for _, want := range []string{"shop.orders", "k-17", "0f8f"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}
