package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KafkaBroker is an Apache Kafka broker that a test may use.
type KafkaBroker struct {
	Brokers []string // host:port of the bootstrap servers
}

var sharedKafka = &shared{env: KafkaEnv, start: func() (string, func(), error) {
	server, err := startKafka(KafkaOptions{})
	if err != nil {
		return "", nil, err
	}
	return server.Brokers[0], server.discard, nil
}}

// Kafka returns the shared broker. Topics, groups and transactional ids on it
// are everybody's: name them with Unique or NewTopic. The test is skipped with -short.
func Kafka(t testing.TB) *KafkaBroker {
	t.Helper()
	skipShort(t, "Kafka")
	address, err := sharedKafka.get()
	must(t, err)
	return &KafkaBroker{Brokers: strings.Split(address, ",")}
}

// Unique returns base with a random suffix, for names on a shared server:
// topics, groups, transactional ids, subjects.
func Unique(base string) string { return fmt.Sprintf("%s-%08x", base, rand.Uint32()) }

// Client returns a client that is closed at the end of the test.
func (b *KafkaBroker) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := b.client(opts...)
	must(t, err)
	t.Cleanup(cl.CloseAllowingRebalance)
	return cl
}

func (b *KafkaBroker) client(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.Brokers...),
		kgo.MetadataMinAge(100 * time.Millisecond), // the default of 5 s stalls the first produce to a new topic
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("make Kafka client: %w", err)
	}
	return cl, nil
}

// NewTopic creates a topic with a name of its own and that many partitions. It
// is deleted at the end of the test. settings are name, value pairs, such as
// "cleanup.policy", "compact".
func (b *KafkaBroker) NewTopic(t testing.TB, partitions int, settings ...string) string {
	t.Helper()
	topic := Unique("test")
	b.CreateTopic(t, topic, partitions, settings...)
	return topic
}

// CreateTopic creates a topic of a given name, which the caller made unique, and
// deletes it at the end of the test.
func (b *KafkaBroker) CreateTopic(t testing.TB, topic string, partitions int, settings ...string) {
	t.Helper()
	configs := map[string]*string{}
	for i := 0; i+1 < len(settings); i += 2 {
		configs[settings[i]] = &settings[i+1]
	}
	cl, err := b.client()
	must(t, err)
	t.Cleanup(cl.Close)
	admin := kadm.NewClient(cl)
	resp, err := admin.CreateTopic(t.Context(), int32(partitions), 1, configs, topic)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	b.DeleteAtEnd(t, topic)
}

// DeleteAtEnd deletes topics at the end of the test, whoever creates them until
// then. That a private broker is down by then is no error.
func (b *KafkaBroker) DeleteAtEnd(t testing.TB, topics ...string) {
	t.Helper()
	t.Cleanup(func() {
		cl, err := b.client()
		if err != nil {
			return
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := kadm.NewClient(cl).DeleteTopics(ctx, topics...); err != nil {
			t.Logf("delete topics: %v", err)
		}
	})
}
