package registry_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/schemas/registry"
)

// conflicting is a registry that answers the first so many attempts to register with a conflict, and a look up with what look says.
func conflicting(t *testing.T, conflicts int32, look http.HandlerFunc) *registry.Client {
	t.Helper()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/schemas/ids/"):
			fmt.Fprint(w, `{"schema": "\"string\""}`)
		case !strings.HasSuffix(r.URL.Path, "/versions"):
			look(w, r)
		case asked.Add(1) <= conflicts:
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"error_code": 409, "message": "An artifact with this ID already exists."}`)
		default:
			fmt.Fprint(w, `{"id": 7}`)
		}
	}))
	t.Cleanup(server.Close)
	c, err := registry.New(registry.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func standsThere(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, `{"subject": "s", "version": 1, "id": 7, "schema": "\"string\""}`)
}

func isNotThere(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprint(w, `{"error_code": 40403, "message": "Schema not found"}`)
}

func isAway(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

// A registry that is asked twice at once, as after an answer that came too late, says that there is a conflict. What stands there is
// not refused, nor what another's schema came before, nor what the registry then says nothing about.
func TestAConflictOverASchemaThatStandsThereIsNoRefusal(t *testing.T) {
	for name, c := range map[string]struct {
		conflicts int32
		look      http.HandlerFunc
		id        int
		want      func(error) bool
	}{
		"it stands there":                       {9, standsThere, 7, isNil},
		"another came first":                    {1, isNotThere, 7, isNil},
		"it is refused":                         {9, isNotThere, 0, isRefused},
		"the registry does not answer any more": {9, isAway, 0, registry.IsTransient},
	} {
		id, err := conflicting(t, c.conflicts, c.look).Register(t.Context(), "s", `"string"`)
		if id != c.id || !c.want(err) {
			t.Errorf("%s: id %d, %v", name, id, err)
		}
	}
}

func isNil(err error) bool { return err == nil }

func isRefused(err error) bool {
	var refused *registry.ErrIncompatible
	return errors.As(err, &refused) && refused.Subject == "s" && strings.Contains(err.Error(), "subject s: incompatible")
}
