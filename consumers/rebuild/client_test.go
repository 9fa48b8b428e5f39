package rebuild

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func fake(t *testing.T) []kgo.Opt {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...)}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// write writes a record of the topic as somebody does.
func write(t *testing.T, kafka []kgo.Opt, key string, v any) {
	t.Helper()
	cl, err := kgo.NewClient(append(kafka, writing()...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: Topic("warehouse"), Key: []byte(key), Value: encoded(t, v)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// A command sees what a sink writes, and hears its answer; a sink that was never rebuilt has a record all the same.
func TestACommandReadsFollowsAndAsks(t *testing.T) {
	t.Parallel()
	ctx, kafka := limited(t), fake(t)
	c := Open("warehouse", kafka...)
	if rec, err := c.Read(ctx); err != nil || rec.Serving != 1 || !rec.At.IsZero() {
		t.Fatalf("%+v %v", rec, err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := c.Ask(short, Request{ID: "q1", Action: Start}); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("nobody runs: %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		a, err := c.Ask(ctx, Request{ID: "q1", Action: Start})
		if err == nil && (a.OK || a.Reason != "not now") {
			err = errors.New("another answer: " + a.Reason)
		}
		answered <- err
	}()
	rec := sound()
	write(t, kafka, recordKey, rec)
	write(t, kafka, "q1", Answer{ID: "q1", Reason: "not now"})
	if err := <-answered; err != nil {
		t.Error(err)
	}
	ended := errors.New("seen")
	err := c.Follow(ctx, func(r Record) error {
		if r.Rebuild.Progress.Events == 5 {
			write(t, kafka, progressKey, progressed{"r1", Building, Progress{Events: 6}})
			return nil
		}
		return ended
	})
	if !errors.Is(err, ended) {
		t.Error(err)
	}
	if got, err := c.Read(ctx); err != nil || got.Rebuild.Progress.Events != 6 || got.Generations[1].Projections["order.yaml"] == "" {
		t.Errorf("%+v %v", got, err)
	}
}

// Nobody asks for what no sink would understand.
func TestARequestIsLookedAtBeforeItIsWritten(t *testing.T) {
	c := Open("warehouse", kgo.SeedBrokers("127.0.0.1:1"))
	for _, q := range []Request{{Action: "dance"}, {Action: Start, Options: &Options{From: "yesterday"}}, {Action: Start, Options: &Options{Rate: -1}}} {
		if _, err := c.Ask(limited(t), q); err == nil {
			t.Errorf("%+v was asked", q)
		}
	}
}
