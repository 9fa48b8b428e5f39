package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/registry"
)

// A registry that is asked twice at once, as after an answer that came too late, says that there is a conflict. What stands there is
// not refused.
func TestAConflictOverASchemaThatStandsThereIsNoRefusal(t *testing.T) {
	for there, want := range map[bool]int{true: 7, false: 0} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/versions"):
				w.WriteHeader(http.StatusConflict)
				fmt.Fprint(w, `{"error_code": 409, "message": "An artifact with this ID already exists."}`)
			case there:
				fmt.Fprint(w, `{"subject": "s", "version": 1, "id": 7, "schema": "\"string\""}`)
			default:
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"error_code": 40403, "message": "Schema not found"}`)
			}
		}))
		defer server.Close()
		c, err := registry.New(registry.Config{URL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.Register(t.Context(), "s", `"string"`)
		var refused *registry.ErrIncompatible
		if id != want || errors.As(err, &refused) == there {
			t.Errorf("it stands there: %v; id %d, want %d, %v", there, id, want, err)
		}
	}
}
