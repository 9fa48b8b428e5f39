package opensearch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/test/harness"
)

// generation opens another generation beside r's.
func (r *rig) generation(n int, change func(*Config)) *rig {
	r.t.Helper()
	other := *r
	other.cfg.Generation = n
	if change != nil {
		change(&other.cfg)
	}
	other.Sink = open(r.t, other.cfg)
	return &other
}

// readers are the indices that readers of an entity find, and how many documents.
func (r *rig) readers(entity string) string {
	r.t.Helper()
	alias := path(r.names.readers(entity))
	err := r.client.call(r.t.Context(), http.MethodPost, alias+"/_refresh", nil, nil)
	if has(err, http.StatusNotFound) {
		return "none"
	}
	var indices map[string]any
	var answer hits
	if err := errors.Join(err, r.client.call(r.t.Context(), http.MethodGet, "/_alias"+alias, nil, &indices),
		r.client.call(r.t.Context(), http.MethodGet, alias+"/_search", nil, &answer)); err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for name := range indices {
		names = append(names, strings.TrimPrefix(name, r.cfg.Prefix+"-"))
	}
	slices.Sort(names)
	return fmt.Sprint(strings.Join(names, " "), ": ", answer.Hits.Total.Value)
}

// Promise 8: the old generation serves until the new one is told to, however far that is; then all entities move in one step.
func TestPromise8_AGenerationServesWhenItIsToldTo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t, func(c *Config) { c.Projections = []fold.Projection{first, items{"gone", "d1"}} })
	r.claim()
	r.commit(batch(0, 4, "a", state(1, "1"), "b", state(2, "2"), "c", state(3, "3")))
	r.commit(batch(4, 5, "c", deleted(5)))
	next := r.generation(2, func(c *Config) { c.Projections = []fold.Projection{items{"item", "d2"}, items{"added", "d1"}} })
	next.claim()
	next.commit(batch(0, 4, "a", state(1, "1")))
	if err := next.Serve(ctx); !errors.Is(err, fold.ErrBehind) {
		t.Errorf("serve while it is behind: %v", err)
	}
	next.commit(batch(4, 6, "d", state(6, "6"), "e", state(7, "7")))
	r.want("a generation that has caught up", r.readers("item")+", "+r.readers("added")+", "+r.readers("gone"), "item-g1: 2, none, gone-g1: 0")
	if err := errors.Join(next.Serve(ctx), next.Serve(ctx)); err != nil {
		t.Fatal(err)
	}
	r.want("a generation that serves", r.readers("item")+", "+r.readers("added")+", "+r.readers("gone"), "item-g2: 3, added-g2: 0, none")
	_, _ = r.generation(1, nil), next.generation(2, nil)
	r.want("after restarts of both", r.readers("item")+", "+r.readers("added")+", "+r.readers("gone"), "item-g2: 3, added-g2: 0, none")
	if err := next.Remove(ctx); !errors.Is(err, fold.ErrServing) {
		t.Errorf("remove what serves: %v", err)
	}
	if err := r.client.call(ctx, http.MethodDelete, path(next.layouts["added"].index)+"/_alias"+path(r.names.readers("added")), nil, nil); err != nil {
		t.Fatal(err)
	}
	_ = next.generation(2, nil)
	r.want("an alias that somebody deleted", r.readers("added"), "added-g2: 0")
	if err := r.Remove(ctx); err != nil {
		t.Errorf("remove the old generation: %v", err)
	}
	r.want("after the removal", r.readers("item")+", "+r.readers("gone"), "item-g2: 3, none")
}

// A later generation that nobody serves yet is not shown by its start.
func TestALaterGenerationIsNotShownByItsStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Generation = 3 })
	r.want("the start of generation 3", r.readers("item"), "none")
	_ = r.generation(3, nil)
	r.want("the second start", r.readers("item"), "none")
	if err := r.Serve(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.want("generation 3", r.readers("item"), "item-g3: 0")
}

// Indices of a cache whose prefix begins as ours does are not ours.
func TestALongerPrefixIsAnotherSink(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t, nil)
	other := r.generation(2, func(c *Config) { c.Prefix += "-item" }) // PREFIX-item-item-g2
	if err := errors.Join(other.Serve(ctx), r.Serve(ctx)); err != nil {
		t.Fatal(err)
	}
	if s, err := r.serving(ctx); err != nil || s.generation() != 1 {
		t.Errorf("what serves is %v, %v", s, err)
	}
	second := r.generation(2, nil)
	if err := second.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	other.want("the other sink", other.readers("item"), "item-g2: 0")
}

// settingsNow are the refresh interval and the copies of the item index.
func (r *rig) settingsNow() string {
	r.t.Helper()
	now, err := r.look(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	index := now[r.layouts["item"].index].Settings.Index
	return fmt.Sprint(index.Refresh, " ", index.Replicas, " ", index.AutoExpand)
}

func TestWhatIsBuiltIsNeitherRefreshedNorReplicatedUntilItIsFinished(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t, nil)
	normal := r.settingsNow()
	b := r.generation(2, func(c *Config) { c.Building = true })
	r.want("while it is built", b.settingsNow(), "-1 0 false")
	b.claim()
	b.commit(batch(0, 2, "a", state(1, "1"), "b", state(2, "2")))
	r.want("what it has loaded", b.versions("a", "b"), "a:1 b:2")
	again := b.generation(2, nil)
	r.want("after a restart", again.settingsNow(), "-1 0 false")
	if err := errors.Join(again.Finish(ctx), again.Finish(ctx)); err != nil {
		t.Fatal(err)
	}
	finished := strings.TrimSpace(again.settingsNow())
	if strings.Fields(finished)[0] != strings.Fields(normal)[0] || strings.Fields(finished)[1] != strings.Fields(normal)[1] {
		t.Errorf("when it is finished the settings are %q; without being built they would be %q", finished, normal)
	}
	var answer hits
	if err := r.client.call(ctx, http.MethodGet, path(b.layouts["item"].index)+"/_search", nil, &answer); err != nil || answer.Hits.Total.Value != 2 {
		t.Errorf("searches find %+v, %v", answer.Hits, err)
	}
	_ = again.generation(2, nil) // still as a builder, after a crash
	r.want("what is finished stays so", again.settingsNow(), finished)
}

// What nobody refreshes later is searchable when it is finished.
func TestFinishMakesEverythingVisible(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Generation, c.Building, c.RefreshInterval = 2, true, -1 })
	r.claim()
	r.commit(batch(0, 2, "a", state(1, "1"), "b", state(2, "2")))
	if err := r.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	var answer hits
	if err := r.client.call(t.Context(), http.MethodGet, path(r.layouts["item"].index)+"/_search", nil, &answer); err != nil || answer.Hits.Total.Value != 2 {
		t.Errorf("searches find %+v, %v", answer.Hits, err)
	}
}

// Whoever uses a generation that was never finished gets it as it is to be.
func TestABuiltGenerationThatIsUsedUnfinishedIsRestored(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	b := r.generation(2, func(c *Config) { c.Building = true })
	used := b.generation(2, func(c *Config) { c.Building = false })
	if now := strings.Fields(used.settingsNow()); now[0] != "1000ms" || now[1] != strings.Fields(r.settingsNow())[1] {
		t.Errorf("the settings are %v", now)
	}
}

// What an operator's template says of copies is restored, and not what we think.
func TestFinishRestoresWhatATemplateSays(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearch(t)
	prefix := unique(t, server)
	cl, err := newClient(Config{URL: server}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.close()
	for i, want := range []string{`{"auto_expand_replicas":"0-all"}`, `{"number_of_replicas":3}`} {
		name := fmt.Sprint(prefix, "-t", i)
		var settings object
		if i == 0 {
			settings = object{"auto_expand_replicas": "0-all"}
		} else {
			settings = object{"number_of_replicas": 3}
		}
		if err := cl.call(t.Context(), http.MethodPut, "/_index_template"+path(name), object{"index_patterns": []string{name + "-*"}, "priority": 500, "template": object{"settings": settings}}, nil); err != nil {
			t.Fatal(err)
		}
		cfg := Config{URL: server, Prefix: name, Generation: 2, Building: true, Projections: []fold.Projection{first}}
		s := open(t, cfg)
		if err := s.Serve(t.Context()); err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		now, err := s.look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		index := now[s.layouts["item"].index].Settings.Index
		if i == 0 && index.AutoExpand != "0-all" || i == 1 && (index.Replicas != "3" || index.AutoExpand == "0-all") {
			t.Errorf("%s: the settings are %+v", want, index)
		}
	}
}

// A replica that is being made is waited for; one that has no place is not, nor for ever; a part without any copy is an error.
func TestFinishWaitsForReplicasAsFarAsThatHelps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []string // the last stays
		err     bool
		least   int // how often it looks
	}{
		{"made", []string{`{"status":"yellow","initializing_shards":1}`, `{"status":"yellow","initializing_shards":1}`, `{"status":"yellow","initializing_shards":1}`, `{"status":"green"}`}, false, 4},
		{"no place", []string{`{"status":"yellow","unassigned_shards":1}`}, false, 3},
		{"between two", []string{`{"status":"yellow","initializing_shards":1,"unassigned_shards":1}`, `{"status":"yellow","unassigned_shards":1}`, `{"status":"yellow","initializing_shards":1}`, `{"status":"green"}`}, false, 4},
		{"for ever", []string{`{"status":"yellow","initializing_shards":1}`}, false, 2},
		{"no copy", []string{`{"status":"red","unassigned_shards":1}`}, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *Config) {
				cfg.Building, cfg.Generation = true, 2
				if c.name == "for ever" || c.name == "no copy" {
					cfg.ReplicaTimeout = healthEvery / 2
				}
			})
			looks := 0
			r.proxy.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
				if !strings.HasPrefix(req.URL.Path, "/_cluster/health") {
					return false
				}
				fmt.Fprint(w, c.answers[min(looks, len(c.answers)-1)])
				looks++
				return true
			})
			if err := r.Finish(context.Background()); (err != nil) != c.err || looks < c.least {
				t.Errorf("after %d looks: %v", looks, err)
			}
		})
	}
}

// Of many more documents than a page holds, and of several parts of an index, a snapshot shows each once.
func TestASnapshotReadsPageAfterPage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := harness.OpenSearch(t)
	prefix := unique(t, server)
	cl, err := newClient(Config{URL: server}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.close()
	if err := cl.call(ctx, http.MethodPut, "/_index_template"+path(prefix+"-shards"), object{"index_patterns": []string{prefix + "-*"}, "priority": 500,
		"template": object{"settings": object{"number_of_shards": 3}}}, nil); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, server: server, log: &journal{}, proxy: newProxy(t, server)}
	r.cfg = Config{URL: r.proxy.URL, Prefix: prefix, Projections: []fold.Projection{first}, Logger: r.log.logger()}
	r.Sink = open(t, r.cfg)
	r.claim()
	const n = 2500
	var all []any
	for i := range n {
		all = append(all, fmt.Sprintf("k%04d", i), state(int64(i+1), fmt.Sprint(i)))
	}
	r.commit(batch(0, n, all...))
	snap, err := r.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	r.commit(batch(n, n+1, "k0001", state(n+1, "later"), "new", state(n+1, "later")))
	refresh(t, r.Sink)
	pages := 0
	r.proxy.set(func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		if req.URL.Path == "/_search" {
			pages++
		}
		return false
	})
	for range 2 {
		seen := map[string]int64{}
		err := snap.States(ctx, "item", func(key string, s fold.Stored) error {
			if _, twice := seen[key]; twice {
				t.Errorf("%s comes twice", key)
			}
			seen[key] = s.Version
			return nil
		})
		if err != nil || len(seen) != n || seen["k0001"] != 2 || pages < 2 {
			t.Errorf("%d states on %d pages, k0001 of version %d, %v", len(seen), pages, seen["k0001"], err)
		}
	}
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
		if req.URL.Path == "/_search" {
			fmt.Fprint(w, `{"timed_out":false,"_shards":{"total":3,"failed":1},"hits":{"hits":[]}}`)
		}
		return req.URL.Path == "/_search"
	})
	if err := snap.States(ctx, "item", func(string, fold.Stored) error { return nil }); err == nil {
		t.Error("an answer in which a part of the index is missing is taken for all there is")
	}
	r.proxy.set(nil)
	if err := errors.Join(snap.Close(), snap.Close()); err != nil {
		t.Error(err)
	}
	if err := snap.States(ctx, "item", func(string, fold.Stored) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed snapshot: %v", err)
	}
}

// A later version stays even if it is written between the look at the owner and the write of what was folded anew.
func TestPromise4_AReplacementGivesWayToALaterVersion(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 2, "a", state(1, "wrong"), "b", state(2, "2")))
	later := r.generation(1, nil) // another owner, who is faster
	once := false
	r.proxy.set(func(_ http.ResponseWriter, req *http.Request, body []byte) bool {
		if isBulk(req) && strings.Contains(string(body), newerOrEqual) && !once {
			once = true
			c, err := later.Claim(ctx, part0)
			if err != nil {
				t.Error(err)
			}
			commit := batch(2, 3, "b", state(3, "later"))
			commit.Epoch = c.Epoch
			if err := later.Commit(ctx, commit); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	replace := batch(2, 2, "a", state(1, "right"), "b", state(2, "anew"))
	replace.Replace = true
	if err := r.Commit(ctx, replace); err == nil || !once {
		t.Error("a replacement by who is the owner no more succeeds")
	}
	r.want("versions", r.versions("a", "b"), "a:1 b:3")
	r.want("found", r.finds("sku:right")+"/"+r.finds("sku:later")+"/"+r.finds("sku:anew"), "a/b/")
}
