package rebuild

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Promise 8: side effects are not repeated. A CDN is told once of each change, however often the events are read: not by the build, and not by the generation that
// follows behind.
func TestPromise8_SideEffectsAreNotRepeated(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards the following
	purged := 0
	cdn := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		purged += len(strings.Fields(req.Header.Get("Surrogate-Key")))
	}))
	defer cdn.Close()
	r := newRig(t, "redis", `, purge: {url: "`+cdn.URL+`"}`)
	count := func() int { mu.Lock(); defer mu.Unlock(); return purged }
	r.fill(300)
	r.start()
	r.ready()
	before := count()
	if before == 0 {
		t.Fatal("nothing is purged at all")
	}
	reader := r.watch()
	r.ok("rebuild", r.name)
	if now := count(); now != before {
		t.Errorf("%d keys were purged before, %d after the rebuild", before, now)
	}
	// The generation that serves now purges, and only that.
	r.mu.Lock()
	rec, err := r.event("key-01", "one change")
	if err == nil {
		err = r.cl.ProduceSync(t.Context(), rec).FirstErr()
	}
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	r.caughtUp()
	r.ok("rebuild", "rollback", r.name)
	if now := count(); now != before+1 {
		t.Errorf("one change of one key after the swap: %d keys were purged before, %d now", before, now)
	}
	reader.end()
}
