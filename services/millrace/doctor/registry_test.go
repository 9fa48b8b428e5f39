package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

const testTimeout = time.Minute

func lookAtRegistry(t *testing.T, url string, topics ...string) Report {
	t.Helper()
	o := relay.Config{Outbox: "shop", Topics: map[string]relay.Topic{}}
	for _, topic := range topics {
		o.Topics[topic] = relay.Topic{}
	}
	s := Site{Registry: client(t, url), Outboxes: []relay.Config{o.WithDefaults()}, Explain: func(err error) error { return err }}
	return Report{s.registry(t.Context())}
}

// A real registry that says NONE of a subject for which its rule of all holds.
func TestASubjectWithoutARuleOfItsOwn(t *testing.T) {
	t.Parallel()
	url, topic := harness.Registry(t), harness.Unique("orders")
	subject := topic + "-shop.OrderPlaced"
	if _, err := client(t, url).Register(t.Context(), subject, `{"type":"record","name":"OrderPlaced","namespace":"shop","fields":[]}`); err != nil {
		t.Fatal(err)
	}
	r := lookAtRegistry(t, url, topic)
	r.nothing(t)
	r.wants(t, "compatibility of subjects", OK, "each of 1 subjects", "")
	r.wants(t, "compatibility", OK, "BACKWARD", "")
}

// What cannot be done to a registry that others use.
func TestARegistryThatRefusesNothingOrEverything(t *testing.T) {
	t.Parallel()
	level, mode := "NONE", "READONLY"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/config":
			fmt.Fprintf(w, `{"compatibilityLevel":%q}`, level)
		case "/mode":
			fmt.Fprintf(w, `{"mode":%q}`, mode)
		case "/subjects":
			fmt.Fprint(w, `["orders-shop.OrderPlaced", "other-shop.X"]`)
		case "/config/orders-shop.OrderPlaced":
			fmt.Fprint(w, `{"compatibilityLevel":"NONE"}`)
		case "/compatibility/subjects/orders-shop.OrderPlaced/versions":
			fmt.Fprint(w, `{"is_compatible":true}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	r := lookAtRegistry(t, server.URL, "orders")
	r.wants(t, "compatibility", Warning, "NONE", "curl -X PUT")
	r.wants(t, "mode", Error, "READONLY", "curl -X PUT")
	level, mode = "FORWARD", "READWRITE"
	r = lookAtRegistry(t, server.URL, "orders")
	r.wants(t, "compatibility", Note, "FORWARD", "curl -X PUT")
	r.wants(t, "mode", OK, "takes new schemas", "")
	r.wants(t, "compatibility of subjects", Warning, "orders-shop.OrderPlaced", "/config/orders-shop.OrderPlaced")
}
