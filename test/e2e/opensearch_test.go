package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// The embedded index and OpenSearch are asked by the same command and answer the same.
func TestSearchOnOpenSearch(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearch(t)
	s, _, db := realSite(t)
	prefix := harness.Unique("e2e")
	t.Cleanup(func() { deleteIndices(t, server, prefix) })
	s.write("password", "s3cret\n")
	s.edit("millrace.yaml", "{kind: bleve, path: data/search, entities: [parcel]}",
		`{kind: opensearch, url: "`+server+`", username: me, password: "${file:password}", index_prefix: `+prefix+`, refresh_interval: 50ms, entities: [parcel]}`)
	s.ok("config", "check")
	if printed := s.ok("config", "print"); strings.Contains(printed, "s3cret") || !strings.Contains(printed, prefix) {
		t.Errorf("config print:\n%s", printed)
	}
	s.ok("migrate", "up")
	s.ok("schema", "push")
	up := s.start("up")
	s.writeEvents(db)
	s.waitStatus("everything is published and applied", caughtUp(6))
	eventually(t, "the document is found", func() bool {
		return strings.Contains(s.ok("search", "parcel", "status:delivered", "--sort", "weight_g"), "p1")
	})
	golden(t, "search", s.ok("search", "parcel", "status:delivered", "--sort", "weight_g"))
	golden(t, "search-none", s.ok("search", "parcel", "city:nowhere"))
	if said := s.fails(1, "search", "parcel", "nosuch:1"); !strings.Contains(said, `no field "nosuch"`) {
		t.Errorf("a field that does not exist: %s", said)
	}
	if code := up.Stop(t, 30*time.Second); code != 0 || strings.Contains(up.Output(), "s3cret") || strings.Contains(up.Output(), "level=ERROR") {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
}

func deleteIndices(t *testing.T, server, prefix string) {
	for _, path := range []string{"/" + prefix + "*?expand_wildcards=all", "/_index_template/" + prefix + "*"} {
		req, err := http.NewRequest(http.MethodDelete, server+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Logf("clean up: %v", err)
			return
		}
		resp.Body.Close()
	}
}
