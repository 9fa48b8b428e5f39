package sink

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/harness"
)

// Where Kafka is away at the start, nobody knows which generation is to answer: whoever asks is told so, and what to do; when Kafka is there the sink answers by itself.
func TestAStartWithoutKafkaSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{t: t, kafka: []kgo.Opt{kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", port))}, topic: "accounts", name: harness.Unique("unread")}
	s := b.run(Config{Kind: "bleve", Path: t.TempDir() + "/search"}, b.declare(""))
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/search?entity=account", nil))
		return w.Code, w.Body.String()
	}
	eventually(t, "it says what it waits for", func() error {
		code, text := ask()
		for _, want := range []string{"which generation serves", "__millrace." + b.name + ".generations", "kafka.brokers", "refused"} {
			if code != http.StatusServiceUnavailable || !strings.Contains(text, want) {
				return fmt.Errorf("%d %s: want %q", code, text, want)
			}
			if err := s.Ready(); err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("ready: %w", err)
			}
		}
		return nil
	})
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(3, "accounts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	t.Cleanup(s.end) // before the broker goes
	eventually(t, "it answers by itself", func() error {
		if code, text := ask(); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, text)
		}
		return s.Ready()
	})
}
