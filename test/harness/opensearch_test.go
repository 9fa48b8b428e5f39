package harness_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/test/harness"
)

func TestPrivateOpenSearchKeepsItsDataWhenItIsKilled(t *testing.T) {
	t.Parallel()
	server := harness.OpenSearchServer(t, harness.OpenSearchOptions{})
	call := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(answer)
	}
	if status, answer := call("PUT", "/kept/_doc/1", `{"n": 1}`); status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	server.Kill(t)
	server.Start(t)
	if status, answer := call("GET", "/kept/_doc/1?realtime=true", ""); status != http.StatusOK || !strings.Contains(answer, `"n": 1`) {
		t.Fatalf("after a kill: %d %s", status, answer)
	}
}
