package matrix

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/position"
)

// hookSecret signs what a webhook posts.
const hookSecret = "whsec_bWF0cml4LW1hdHJpeC1tYXRyaXgtbWF0cml4"

// receiver is what stands at the other end of a webhook. As it is told to, it does by id what it has not done yet: so what it has done is each event once, in the order in which
// they came first.
type receiver struct {
	url string

	mu   sync.Mutex // guards the following
	done map[string]bool
	now  map[string]account
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{done: map[string]bool{}, now: map[string]account{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// ServeHTTP takes an event.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // it was cut off: nobody knows of it
	}
	var ev struct {
		Account string
		Amount  int64
		Memo    string
	}
	var seq int64
	if err = json.Unmarshal(body, &ev); err == nil {
		err = json.Unmarshal([]byte(req.Header.Get("Ce-Millraceseq")), &seq)
	}
	id := req.Header.Get("Ce-Id")
	if err != nil || id == "" {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done[id] {
		r.done[id] = true
		was := r.now[ev.Account]
		r.now[ev.Account] = account{was.n + 1, was.sum + ev.Amount, seq, ev.Memo}
	}
}

// stored is what it has done, and the sink's positions.
func (r *receiver) stored(rig *rig) (map[string]account, map[consumers.TopicPartition]int64) {
	rig.t.Helper()
	log, err := position.New(position.Config{Sink: rig.name, Kafka: []kgo.Opt{kgo.SeedBrokers(rig.broker.Brokers...)}})
	if err != nil {
		rig.t.Fatal(err)
	}
	at, err := log.Positions(context.Background())
	if err != nil {
		rig.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		rig.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := map[string]account{}
	for key, a := range r.now {
		now[key] = a
	}
	return now, at
}
