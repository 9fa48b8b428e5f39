package opensearch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// Promise 7: a document that cannot be indexed does not stop the stream, and is not lost.
func TestADocumentThatTheMappingRefusesIsKeptWithoutItsColumns(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	// Somebody adds a field of a kind that not every value has.
	operator := object{"properties": object{"sku": object{"type": "keyword", "ignore_above": maxKeyword, "copy_to": textField,
		"fields": object{"number": object{"type": "integer"}}}}}
	if err := r.client.call(t.Context(), http.MethodPut, path(r.layouts["item"].index)+"/_mapping", operator, nil); err != nil {
		t.Fatal(err)
	}
	r.claim()
	r.commit(batch(0, 3, "good", state(1, "17"), "bad", state(2, "seventeen"), "too", state(3, "18")))
	r.want("states", r.versions("good", "bad", "too"), "good:1 bad:2 too:3")
	r.want("all", r.finds(""), "bad good too")
	r.want("by a column", r.finds("sku:seventeen"), "")
	r.want("by another", r.finds("name:blue"), "good too")
	r.want("by its key", r.finds("_key:bad"), "bad")
	if r.next() != 3 {
		t.Errorf("the position is %d", r.next())
	}
	if log := r.log.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "key=bad") || !strings.Contains(log, "400 mapper_parsing_exception") {
		t.Errorf("the log says %s", log)
	}
	r.commit(batch(3, 4, "bad", state(4, "19")))
	r.want("mended", r.finds("sku:19"), "bad")
}

// What nearly all documents are refused for is not their fault.
func TestRefusalsOfNearlyEverythingStopTheSink(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	operator := object{"properties": object{"sku": object{"type": "keyword", "ignore_above": maxKeyword, "copy_to": textField,
		"fields": object{"number": object{"type": "integer"}}}}}
	if err := r.client.call(t.Context(), http.MethodPut, path(r.layouts["item"].index)+"/_mapping", operator, nil); err != nil {
		t.Fatal(err)
	}
	r.claim()
	c := batch(0, 200)
	for i := range int64(200) {
		c.Changes["item"] = append(c.Changes["item"], fold.Change{Key: fmt.Sprintf("k%03d", i), Stored: state(i+1, "no number")})
	}
	err := r.Commit(t.Context(), c)
	if !errors.Is(err, ErrDeclaration) || consumers.Classify(err) != consumers.Systemic {
		t.Errorf("got %v", err)
	}
	if r.next() != -1 {
		t.Errorf("the position moved to %d", r.next())
	}
}

// overloaded answers a bulk request as a cluster does that has no room for the documents of some keys.
func overloaded(t testing.TB, p *proxy, w http.ResponseWriter, r *http.Request, body []byte, status int, without func(key string) bool) {
	lines := strings.SplitAfter(string(body), "\n")
	var passed []string
	var answer []string
	for i, key := range keys(t, string(body)) {
		if without(key) {
			answer = append(answer, fmt.Sprintf(`{"index":{"status":%d,"error":{"type":"rejected_execution_exception","reason":"full"}}}`, status))
			continue
		}
		passed = append(passed, lines[2*i], lines[2*i+1])
		answer = append(answer, `{"index":{"status":201}}`)
	}
	if len(passed) > 0 {
		p.pass(newDiscard(), r, []byte(strings.Join(passed, "")))
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"items":[%s]}`, strings.Join(answer, ","))
}

type discard struct{ header http.Header }

func newDiscard() discard                     { return discard{http.Header{}} }
func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func TestOnlyWhatTheClusterHadNoRoomForIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		r := newRig(t, nil)
		r.claim()
		times := 0
		r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
			if !isBulk(req) || times == 2 {
				return false
			}
			times++
			overloaded(t, r.proxy, w, req, body, status, func(key string) bool { return key == "b" || key == "d" && times == 1 })
			return true
		})
		r.commit(batch(0, 4, "a", state(1, "1"), "b", state(2, "2"), "c", state(3, "3"), "d", state(4, "4")))
		var sent []string
		for _, body := range r.proxy.bulks() {
			sent = append(sent, strings.Join(keys(t, body), ""))
		}
		r.want(fmt.Sprint(status), strings.Join(sent, " "), "abcd bd b")
		r.want("states", r.versions("a", "b", "c", "d"), "a:1 b:2 c:3 d:4")
		r.want("found", r.finds("sku:2"), "b")
	}
}

func TestAClusterThatIsAwayForAWholeRequestIsAskedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	times := 0
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
		if !isBulk(req) || times == 3 {
			return false
		}
		times++
		refuse(w, http.StatusServiceUnavailable, "cluster_block_exception")
		return true
	})
	r.commit(batch(0, 1, "a", state(1, "1")))
	r.want("states", r.versions("a"), "a:1")
	if got := len(r.proxy.bulks()); got != 4 {
		t.Errorf("%d requests", got)
	}
}

// A cluster that takes nothing for longer than a Commit may take is the lane's to wait for: it tells the operator.
func TestACommitGivesUpInTheEndAndMovesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.CommitTimeout = 300 * time.Millisecond })
	r.claim()
	full := func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		if isBulk(req) {
			overloaded(t, r.proxy, w, req, body, http.StatusTooManyRequests, func(key string) bool { return key == "b" })
		}
		return isBulk(req)
	}
	r.proxy.set(full)
	c := batch(0, 2, "a", state(1, "1"), "b", state(2, "2"))
	err := r.Commit(t.Context(), c)
	if err == nil || consumers.Classify(err) != consumers.Transient || !strings.Contains(err.Error(), "429 rejected_execution_exception") {
		t.Errorf("got %v", err)
	}
	if r.next() != -1 {
		t.Errorf("the position is %d", r.next())
	}
	r.proxy.set(nil)
	r.commit(c)
	r.want("states", r.versions("a", "b"), "a:1 b:2")
}

// A lane that loses its partition, or a process that stops, does not wait for room.
func TestACommitThatNobodyWaitsForDoesNotTryAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.CommitTimeout = time.Hour })
	r.claim()
	gone, cancel := context.WithCancel(t.Context())
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		if isBulk(req) {
			cancel()
			overloaded(t, r.proxy, w, req, body, http.StatusTooManyRequests, func(string) bool { return true })
		}
		return isBulk(req)
	})
	if err := r.Commit(gone, batch(0, 1, "a", state(1, "1"))); err == nil {
		t.Error("a commit without room was made")
	}
	if got := len(r.proxy.bulks()); got > 2 {
		t.Errorf("%d requests", got)
	}
}

// Promise 4: exactly once in effect, when nobody knows what became of a request.
func TestPromise4_AConnectionCutAfterTheDocumentsWereWritten(t *testing.T) {
	t.Parallel()
	for _, which := range []struct {
		name  string
		is    func(*http.Request) bool
		after error // what the repeated commit says
	}{{"documents", isBulk, nil}, {"position", isMove, consumers.ErrPosition}} {
		r := newRig(t, nil)
		r.claim()
		r.commit(batch(0, 1, "a", state(1, "1")))
		times := 0
		r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
			if !which.is(req) || times == 1 {
				return false
			}
			times++
			r.proxy.swallow(w, req, body)
			return true
		})
		c := batch(1, 3, "a", state(2, "2"), "b", state(3, "3"))
		if err := r.Commit(t.Context(), c); err == nil || consumers.Classify(err) != consumers.Transient {
			t.Errorf("%s: got %v", which.name, err)
		}
		r.want(which.name, r.versions("a", "b"), "a:2 b:3")
		if err := r.Commit(t.Context(), c); !errors.Is(err, which.after) {
			t.Errorf("%s: the repeated commit: %v", which.name, err)
		}
		r.want(which.name, r.versions("a", "b"), "a:2 b:3")
		if r.next() != 3 {
			t.Errorf("%s: the position is %d", which.name, r.next())
		}
	}
}

// Promise 4: a slow zombie. It was the owner when it looked, and is not when it writes.
func TestPromise4_AnOwnerThatIsReplacedInTheMiddleOfACommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.claim()
	r.commit(batch(0, 1, "a", state(1, "1")))
	once := true
	r.proxy.set(func(_ http.ResponseWriter, req *http.Request, _ []byte) bool {
		if isBulk(req) && once {
			once = false
			owner := r.claim()
			ahead := batch(1, 5, "a", state(4, "4"), "b", state(2, "2"), "c", state(5, "5"))
			ahead.Epoch = owner.Epoch
			r.commit(ahead)
		}
		return false
	})
	err := r.Commit(t.Context(), batch(1, 4, "a", state(3, "3"), "b", state(2, "2"), "c", deleted(4))) // what was made anew since is not deleted
	if !errors.Is(err, consumers.ErrFenced) {
		t.Errorf("got %v", err)
	}
	r.want("states", r.versions("a", "b", "c"), "a:4 b:2 c:5")
	if r.next() != 5 {
		t.Errorf("the position is %d", r.next())
	}
}

// Promise 4: redelivery, however late. The server forgets versions of deleted documents; the stub stays.
func TestPromise4_ADeletedStateStaysDeletedWhenTheServerHasForgottenIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.client.call(t.Context(), http.MethodPut, path(r.layouts["item"].index)+"/_settings", object{"index": object{"gc_deletes": "1ms"}}, nil); err != nil {
		t.Fatal(err)
	}
	r.claim()
	r.commit(batch(0, 2, "a", state(1, "1"), "b", state(2, "2")))
	r.commit(batch(2, 3, "a", deleted(3)))
	// What forgets is a refresh, once the time is over.
	for range 3 {
		time.Sleep(20 * time.Millisecond) // longer than gc_deletes, which only time can pass
		refresh(t, r.Sink)
	}
	// A zombie delivers what it held: it was checked before the new owner claimed.
	late := r.newBulk(r.layouts["item"])
	defer late.giveBack()
	if _, err := late.fill(batch(0, 2, "a", state(1, "1"), "b", state(1, "0")).Changes["item"]); err != nil {
		t.Fatal(err)
	}
	if err := late.write(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.want("states", r.versions("a", "b"), "a:-3 b:2")
	r.want("found", r.finds(""), "b")
	r.want("by its key", r.finds("_key:a"), "")
	var byAlias hits
	if err := r.client.call(t.Context(), http.MethodGet, path(r.names.readers("item"))+"/_search", nil, &byAlias); err != nil || byAlias.Hits.Total.Value != 1 {
		t.Errorf("by the alias: %+v, %v", byAlias, err)
	}
}

func TestRefusedCredentialsStopTheSinkAndAreNotShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Username, c.Password = "me", "s3cret" })
	r.claim()
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		for _, which := range []func(*http.Request) bool{isBulk, isMove, func(*http.Request) bool { return true }} {
			r.proxy.set(func(w http.ResponseWriter, req *http.Request, _ []byte) bool {
				if user, password, _ := req.BasicAuth(); user != "me" || password != "s3cret" {
					t.Errorf("the server sees %q and %q", user, password)
				}
				if which(req) {
					refuse(w, status, "security_exception")
				}
				return which(req)
			})
			err := r.Commit(t.Context(), batch(0, 1, "a", state(1, "1")))
			if consumers.Classify(err) != consumers.Systemic || !strings.Contains(err.Error(), "security_exception") {
				t.Errorf("%d: %v", status, err)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), r.cfg.URL) {
				t.Errorf("%v", err)
			}
		}
	}
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		if isBulk(req) {
			fmt.Fprint(w, `{"items":[{"index":{"status":403,"error":{"type":"security_exception","reason":"no"}}}]}`)
		}
		return isBulk(req)
	})
	if err := r.Commit(t.Context(), batch(0, 1, "a", state(1, "1"))); consumers.Classify(err) != consumers.Systemic {
		t.Errorf("one document refused: %v", err)
	}
	if strings.Contains(r.log.String(), "s3cret") {
		t.Error("the log shows the password")
	}
}

// Something on the way takes no request of more than some bytes.
func TestARequestThatIsTooLargeIsCutUp(t *testing.T) {
	t.Parallel()
	const most = 4000
	r := newRig(t, nil)
	r.claim()
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, body []byte) bool {
		if len(body) > most {
			refuse(w, http.StatusRequestEntityTooLarge, "")
		}
		return len(body) > most
	})
	c := batch(0, 100)
	var want []string
	for i := range int64(50) {
		key := fmt.Sprintf("k%03d", i)
		c.Changes["item"] = append(c.Changes["item"], fold.Change{Key: key, Stored: state(i+1, "x")})
		want = append(want, key)
	}
	// One is too large by itself, and fits without its columns.
	large := state(60, "large")
	large.Values[0] = strings.Repeat("word ", 400)
	c.Changes["item"] = append(c.Changes["item"], fold.Change{Key: "large", Stored: large})
	r.commit(c)
	got, err := r.Load(t.Context(), "item", append(want, "large"))
	if err != nil || len(got) != 51 {
		t.Errorf("%d states, %v", len(got), err)
	}
	r.want("not found by its columns", r.finds("sku:large"), "")
	r.want("found by its key", r.finds("_key:large"), "large")
	for _, body := range r.proxy.bulks() {
		if ids := keys(t, body); len(body) <= most && slices.Contains(ids, "k000") && len(ids) < 2 {
			t.Errorf("cut up further than need be: %v", ids)
		}
	}
}
