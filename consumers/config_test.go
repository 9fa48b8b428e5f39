package consumers_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

func TestConfig(t *testing.T) {
	good := consumers.Config{Name: "n", Topics: []string{"t"}, Kafka: []kgo.Opt{kgo.SeedBrokers("localhost:9092")}, Registry: &testRegistry{}}
	if _, err := consumers.New(good, &script{}); err != nil {
		t.Fatal(err)
	}
	if got := good.WithDefaults(); got.Group != "millrace.n" || got.BatchEvents != 5000 || got.StopTimeout != 10*time.Second {
		t.Errorf("defaults are %+v", got)
	}
	for want, spoil := range map[string]func(*consumers.Config){
		"Name":          func(c *consumers.Config) { c.Name = "" },
		"Topics":        func(c *consumers.Config) { c.Topics = nil },
		"empty name":    func(c *consumers.Config) { c.Topics = []string{"t", ""} },
		"Kafka":         func(c *consumers.Config) { c.Kafka = nil },
		"Registry":      func(c *consumers.Config) { c.Registry = nil },
		"BatchEvents":   func(c *consumers.Config) { c.BatchEvents = -1 },
		"TotalBytes":    func(c *consumers.Config) { c.TotalBytes = -1 },
		"Linger":        func(c *consumers.Config) { c.Linger = -1 },
		"RetryMax":      func(c *consumers.Config) { c.RetryMin, c.RetryMax = time.Minute, time.Second },
		"RevokeTimeout": func(c *consumers.Config) { c.RevokeTimeout = time.Hour },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := consumers.New(cfg, &script{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one about %s", err, want)
		}
	}
	if _, err := consumers.New(good, nil); err == nil {
		t.Error("a consumer without a Processor was made")
	}
}

func TestClassify(t *testing.T) {
	cause := errors.New("cause")
	for want, err := range map[consumers.Class]error{
		consumers.Transient: cause,
		consumers.Systemic:  consumers.AsSystemic(cause),
		consumers.Poison:    consumers.AsPoison(consumers.AsSystemic(cause)),
	} {
		if got := consumers.Classify(err); got != want || !errors.Is(err, cause) {
			t.Errorf("class of %v is %d, want %d", err, got, want)
		}
	}
	if consumers.AsSystemic(nil) != nil || consumers.AsPoison(nil) != nil {
		t.Error("nil was marked")
	}
}

func TestLags(t *testing.T) {
	onBrokers(t, 2, func(t *testing.T, r *rig) {
		r.produce(true, r.added("a", 1), r.added("b", 1), r.added("c", 1), r.added("d", 1))
		eventually(t, "the markers", func() error {
			lags, err := consumers.Lags(t.Context(), r.adm, nil, r.topic)
			if err != nil {
				return err
			}
			var end int64
			for i, l := range lags {
				end += l.End
				if l.Topic != r.topic || l.Partition != int32(i) || l.Position != -1 || l.Lag != l.End || l.Start != 0 {
					return errors.New("wrong lag")
				}
			}
			if len(lags) != 2 || end != 4+2 && end != 4+1 { // one marker for each partition written to
				return errors.New("not all there")
			}
			return nil
		})
		full, err := consumers.Lags(t.Context(), r.adm, nil, r.topic)
		if err != nil {
			t.Fatal(err)
		}
		at := map[consumers.TopicPartition]int64{full[0].TopicPartition: full[0].End, full[1].TopicPartition: full[1].End - 1}
		lags, err := consumers.Lags(t.Context(), r.adm, at, r.topic)
		if err != nil || lags[0].Lag != 0 || lags[1].Lag != 1 {
			t.Errorf("lags %+v, %v", lags, err)
		}
		if _, err := consumers.Lags(t.Context(), kadm.NewClient(r.cl), nil, "no-such-topic"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("error is %v", err)
		}
	})
}
