package sink

import (
	"net/http"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

// A document that a stranger has put in the place of the sink's, without the state that stands in those, is a difference as any other: found with its key and its columns, and repaired. One of a key
// that has no event is taken away. Readers find what is right meanwhile.
func TestADocumentThatAStrangerReplacedIsFoundAndRepaired(t *testing.T) {
	t.Parallel()
	b := newBank(t)
	b.open(100)
	cfg := Config{Kind: "opensearch", URL: harness.OpenSearch(t), IndexPrefix: harness.Unique("replaced")}
	s := b.run(cfg, b.declare(""))
	if out := s.verified(100); out.Differences != 0 {
		t.Fatal(columnsOf(out))
	}
	index := cfg.URL + "/" + cfg.IndexPrefix + "-account-g1"
	b.ok(http.MethodPut, index+"/_doc/account-6", `{"_live":true,"owner":"nobody"}`)
	b.ok(http.MethodPut, index+"/_doc/account-7", `{"_live":true,"_key":"account-7","_state":"bm9uZQ==","owner":"nobody"}`)
	b.ok(http.MethodPut, index+"/_doc/account-none?refresh=true", `{"_live":true,"owner":"nobody"}`)
	out := s.verified(100)
	if got, want := columnsOf(out), "account-6 version [owner]; account-7 version [owner]; account-none unexpected []; "; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if _, err := s.found(); err != nil {
		t.Error(err)
	}
	b.mend(out)
	if left := s.verified(100); left.Differences != 0 {
		t.Errorf("after the repair: %s", columnsOf(left))
	}
	b.open(50)
	if later := s.verified(150); later.Differences != 0 {
		t.Errorf("later: %s", columnsOf(later))
	}
	if n, err := s.found(); n != 50 || err != nil {
		t.Errorf("%d accounts are found: %v", n, err)
	}
}
