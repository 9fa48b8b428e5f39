package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// partner is somebody else's server. It checks signatures, answers late, and can be told to refuse a depot.
type partner struct {
	*httptest.Server
	mu      sync.Mutex // guards the following
	refuses string
	posts   []string // "parcel depot" of each that was taken
	ids     map[string]string
	wrong   []string
	purged  map[string]bool
}

func newPartner(t *testing.T) *partner {
	p := &partner{ids: map[string]string{}, purged: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hooks/t0ken", p.hook)
	mux.HandleFunc("POST /purge", func(_ http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, key := range strings.Fields(r.Header.Get("Surrogate-Key")) {
			p.purged[key] = true
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *partner) hook(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ev struct{ Parcel_id, Depot string }
	_ = json.Unmarshal(body, &ev)
	what := ev.Parcel_id + " " + ev.Depot
	time.Sleep(5 * time.Millisecond) // as long as a near server takes
	p.mu.Lock()
	defer p.mu.Unlock()
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("Webhook-Signature") != want || r.Header.Get("Authorization") != "Bearer s3cret" {
		p.wrong = append(p.wrong, what+": signature or credentials")
	}
	if id := r.Header.Get("Ce-Id"); p.ids[what] != "" && p.ids[what] != id || r.Header.Get("Ce-Type") != "post.ParcelMoved" {
		p.wrong = append(p.wrong, what+": "+r.Header.Get("Ce-Type")+" "+id)
	} else {
		p.ids[what] = id
	}
	if ev.Depot == p.refuses {
		http.Error(w, "no such depot", http.StatusUnprocessableEntity)
		return
	}
	p.posts = append(p.posts, what)
}

func (p *partner) refuse(depot string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = depot
}

// order are the depots of a parcel as they were taken first.
func (p *partner) order(parcel string) (depots []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, what := range p.posts {
		if id, depot, _ := strings.Cut(what, " "); id == parcel && !slices.Contains(depots, depot) {
			depots = append(depots, depot)
		}
	}
	return depots
}

func (p *partner) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.posts)
}

// A partner is posted every event it asked for, in order per key, although the process is killed in the middle; what it refuses waits for a redrive, and
// what the application's cache forgets the CDN forgets, too.
func TestWebhookAndPurge(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	p := newPartner(t)
	hook := s.name + "-partner"
	broker.DeleteAtEnd(t, "__millrace."+hook+".position", "__millrace."+hook+".dead-letter", "__millrace."+hook+".control")
	s.write("secret", hookSecret+"\n")
	s.edit("millrace.yaml", "entities: [parcel, depot]}", `entities: [parcel, depot], purge: {url: "`+p.URL+`/purge"}}
  `+hook+`: {kind: webhook, url: "`+p.URL+`/hooks/t0ken", secret: "${file:secret}", headers: {Authorization: "Bearer s3cret"}, topics: [`+s.topic("parcels")+`], types: [post.ParcelMoved], batch_events: 40}`)
	s.ok("config", "check")
	if printed := s.ok("config", "print"); strings.Contains(printed, "whsec") || strings.Contains(printed, "s3cret") || strings.Contains(printed, "t0ken") || !strings.Contains(printed, "kind: webhook") {
		t.Errorf("config print:\n%s", printed)
	}
	s.setUp()
	conn := db.Conn(t)
	const parcels, moves = 5, 60
	for i := range parcels {
		emit(t, conn, "post.ParcelAccepted", accepted(fmt.Sprint("p", i), "Bremen"))
	}
	for n := range moves {
		for i := range parcels {
			emit(t, conn, "post.ParcelMoved", moved(fmt.Sprint("p", i), fmt.Sprintf("d%03d", n)))
		}
	}
	p.refuse("d050")
	up := s.start("up")
	eventually(t, "posts", func() bool { return p.taken() > 60 })
	up.Kill(t)
	up = s.start("up")
	// Each parcel stands at the refused event and has ten waiting in all; the rest is done.
	view := s.waitStatus("everything is posted or put aside", func(v statusView) bool {
		return caughtUp(parcels*(moves+1))(v) && slices.ContainsFunc(v.Sinks, func(k struct {
			Name, Kind, State, Error string
			Lag                      int64
			Members                  int
			DeadLetters              int64 `json:"dead_letters"`
		}) bool {
			return k.Name == hook && k.DeadLetters == parcels*10
		})
	})
	if len(view.Sinks) != 4 {
		t.Errorf("%+v", view)
	}
	p.refuse("")
	s.ok("dlq", "redrive", "--sink", hook, "--all")
	var want []string
	for n := range moves {
		want = append(want, fmt.Sprintf("d%03d", n))
	}
	for i := range parcels {
		if got := p.order(fmt.Sprint("p", i)); !slices.Equal(got, want) {
			t.Errorf("p%d was taken as %q", i, got)
		}
	}
	p.mu.Lock()
	if len(p.wrong) > 0 || !p.purged["parcel:p0"] || !p.purged["parcel:p4"] {
		t.Errorf("wrong: %q; purged %v", p.wrong, p.purged)
	}
	p.mu.Unlock()
	if code := up.Stop(t, patience); code != 0 || strings.Contains(up.Output(), "s3cret") || strings.Contains(up.Output(), "t0ken") || strings.Contains(up.Output(), "whsec") {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
}
