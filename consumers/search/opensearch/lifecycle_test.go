package opensearch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/test/harness"
)

func systemic(err, want error) bool {
	return errors.Is(err, want) && consumers.Classify(err) == consumers.Systemic
}

func TestOpenRefusesWhatOtherDeclarationsBuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 1, "a", state(1, "1")))
	for _, projections := range [][]fold.Projection{{items{"item", "d2"}}, {first, items{"other", "d1"}}, {items{"other", "d1"}}} {
		cfg := r.cfg
		cfg.Projections = projections
		if _, err := Open(cfg); !systemic(err, ErrDeclaration) {
			t.Errorf("opened with %v: %v", projections, err)
		}
	}
	r.cfg.RefreshInterval = 5 * time.Second
	_ = open(t, r.cfg)
	now, err := r.look(t.Context())
	if err != nil || now[r.layouts["item"].index].Settings.Index.Refresh != "5000ms" {
		t.Errorf("the refresh interval is not taken over: %+v, %v", now, err)
	}
}

func TestAnIndexThatSomebodyDeletedIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 1, "a", state(1, "1")))
	index := r.layouts["item"].index
	if err := r.client.call(t.Context(), http.MethodDelete, path(index), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context(), batch(1, 2, "b", state(2, "2"))); !systemic(err, ErrLost) {
		t.Errorf("commit: %v", err)
	}
	if _, err := r.Load(t.Context(), "item", []string{"a"}); !systemic(err, ErrLost) {
		t.Errorf("load: %v", err)
	}
	if have, err := r.look(t.Context()); err != nil || len(have) != 1 {
		t.Errorf("the write has made an index: %v, %v", have, err)
	}
	if _, err := Open(r.cfg); !systemic(err, ErrLost) {
		t.Errorf("open: %v", err)
	}
	// Somebody makes one by the same name: it has none of the documents.
	if err := r.createIndex(t.Context(), r.layouts["item"], nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.cfg); !systemic(err, ErrLost) {
		t.Errorf("open with another index: %v", err)
	}
	r.cfg.Generation = 2
	_ = open(t, r.cfg)
}

func TestAnIndexOfPositionsThatSomebodyDeletedIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 1, "a", state(1, "1")))
	if err := r.client.call(t.Context(), http.MethodDelete, path(r.names.positions()), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Claim(t.Context(), part0); !systemic(err, ErrLost) {
		t.Errorf("claim: %v", err)
	}
	if err := r.Commit(t.Context(), batch(1, 2, "b", state(2, "2"))); !systemic(err, ErrLost) {
		t.Errorf("commit: %v", err)
	}
	// The documents are still those of the topic: a new start reads it from the beginning, and writes nothing that is there.
	s := open(t, r.cfg)
	c, err := s.Claim(t.Context(), part0)
	if err != nil || c.Epoch != 1 || c.Next != -1 {
		t.Errorf("claim after a new start: %+v, %v", c, err)
	}
	if err := s.Commit(t.Context(), batch(0, 2, "a", state(1, "1"), "b", state(2, "2"))); err != nil {
		t.Error(err)
	}
	r.want("states", r.versions("a", "b"), "a:1 b:2")
}

func TestProcessesThatStartTogetherFindTheSameIndices(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearch(t)
	cfg := Config{URL: server, Prefix: unique(t, server), Projections: []fold.Projection{first, items{"other", "d1"}}, Logger: (&journal{}).logger()}
	var together sync.WaitGroup
	epochs := make(chan int64, 4)
	for range cap(epochs) {
		together.Go(func() {
			s, err := Open(cfg)
			for tries := 0; tries < 10 && err != nil && consumers.Classify(err) != consumers.Systemic; tries++ {
				s, err = Open(cfg) // a slow server, which a service asks again as well
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			c, err := s.Claim(context.Background(), part0)
			if err != nil {
				t.Error(err)
			}
			epochs <- c.Epoch
		})
	}
	together.Wait()
	close(epochs)
	seen := map[int64]bool{}
	for e := range epochs {
		if seen[e] {
			t.Errorf("epoch %d was given twice", e)
		}
		seen[e] = true
	}
}

// A start that was killed half way is taken up again.
func TestAStartThatWasCutShort(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearch(t)
	p := newProxy(t, server)
	cfg := Config{URL: p.URL, Prefix: unique(t, server), Projections: []fold.Projection{first}, Logger: (&journal{}).logger()}
	p.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
		if strings.HasSuffix(req.URL.Path, "/_doc/"+declarationID) && req.Method == http.MethodPut {
			cut(w)
			return true
		}
		return false
	})
	if _, err := Open(cfg); err == nil || consumers.Classify(err) == consumers.Systemic {
		t.Fatalf("got %v", err)
	}
	p.set(nil)
	_ = open(t, cfg)
}

// An operator may keep the right to make templates to himself.
func TestOpenDoesWithoutTheRightToMakeTemplates(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearch(t)
	p := newProxy(t, server)
	log := &journal{}
	p.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
		denied := strings.HasPrefix(req.URL.Path, "/_index_template")
		if denied {
			refuse(w, http.StatusForbidden, "security_exception")
		}
		return denied
	})
	_ = open(t, Config{URL: p.URL, Prefix: unique(t, server), Projections: []fold.Projection{first}, Logger: log.logger()})
	if !strings.Contains(log.String(), "no index template") {
		t.Errorf("the log says %s", log)
	}
}

func TestClosedSinksSaySo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.Load(t.Context(), "item", []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Whoever makes an index anew, to restore it or to copy it, gives it no mapping by hand: the template that the sink leaves has it, strict, and a document that does not belong there is refused.
func TestAnIndexThatIsMadeByHandHasTheMappingOfItsTemplate(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	index := r.layouts["item"].index
	before, err := r.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{http.MethodDelete, http.MethodPut} {
		if err := r.client.call(t.Context(), method, path(index), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	after, err := r.look(t.Context())
	if was, is := before[index].Mappings.Meta.Millrace, after[index].Mappings.Meta.Millrace; err != nil || was.Digest == "" || is != was {
		t.Errorf("made by hand it is of %+v, by the sink of %+v; %v", is, was, err)
	}
	err = r.client.call(t.Context(), http.MethodPut, path(index)+"/_doc/x?refresh=true", object{"of somebody else": 1}, nil)
	if !has(err, http.StatusBadRequest) {
		t.Errorf("a field that is not declared is taken: %v", err)
	}
}
