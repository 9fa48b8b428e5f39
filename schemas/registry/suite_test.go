package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/devregistry"
	"github.com/millrace/millrace/test/harness"
)

const (
	v1         = `{"type":"record","name":"T","namespace":"test","fields":[{"name":"a","type":"string"}]}`
	v2         = `{"type":"record","name":"T","namespace":"test","fields":[{"name":"a","type":"string"},{"name":"b","type":"long","default":0}]}`
	breaking   = `{"type":"record","name":"T","namespace":"test","fields":[{"name":"a","type":"string"},{"name":"c","type":"long"}]}`
	noAvro     = `{"type":"record","name":"T","namespace":"test","fields":[{"name":"a","type":"nonsense"}]}`
	unknownID  = 2_000_000_000
	callBudget = 30 * time.Second
)

func devRegistry(t testing.TB) string {
	t.Helper()
	server, err := devregistry.New(devregistry.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return server.URL()
}

func newClient(t testing.TB, url string) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{URL: url, Timeout: callBudget})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func subjectName() string { return "suite-" + uuid.NewString() }

func TestClientOnDevregistry(t *testing.T) { suite(t, devRegistry(t)) }

func TestClientOnApicurio(t *testing.T) { suite(t, harness.Registry(t)) }

// suite is what the client promises of any registry.
func suite(t *testing.T, url string) {
	client := newClient(t, url)
	ctx := t.Context()
	t.Run("register twice, one id", func(t *testing.T) { registerTwice(t, client) })
	t.Run("text by id", func(t *testing.T) { textByID(t, client) })
	t.Run("incompatible", func(t *testing.T) { incompatible(t, client) })
	t.Run("not a schema", func(t *testing.T) {
		if _, err := client.Register(ctx, subjectName(), noAvro); !errors.Is(err, registry.ErrInvalid) {
			t.Fatalf("got %v, want ErrInvalid", err)
		}
	})
	t.Run("what is not there", func(t *testing.T) { notThere(t, client) })
	t.Run("versions", func(t *testing.T) { versions(t, client) })
	t.Run("ping", func(t *testing.T) {
		if err := client.Ping(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("many at once", func(t *testing.T) { manyAtOnce(t, client) })
}

func registerTwice(t *testing.T, client *registry.Client) {
	subject := subjectName()
	first, err := client.Register(t.Context(), subject, v1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.Register(t.Context(), subject, v1)
	if err != nil || again != first {
		t.Fatalf("second time: id %d, %v; want %d", again, err, first)
	}
	subjects, err := client.Subjects(t.Context())
	if err != nil || !slices.Contains(subjects, subject) {
		t.Fatalf("subjects %v, %v: %s is missing", subjects, err, subject)
	}
}

func textByID(t *testing.T, client *registry.Client) {
	id, err := client.Register(t.Context(), subjectName(), v2)
	if err != nil {
		t.Fatal(err)
	}
	text, err := client.Schema(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	want, err := schemas.Parse(v2)
	if err != nil {
		t.Fatal(err)
	}
	got, err := schemas.Parse(text)
	if err != nil || got.Fingerprint != want.Fingerprint {
		t.Fatalf("came back as %s (%v)", text, err)
	}
}

func incompatible(t *testing.T, client *registry.Client) {
	subject := subjectName()
	if ok, _, err := client.Compatible(t.Context(), subject, v1); err != nil || !ok {
		t.Fatalf("a new subject takes any schema; got %v, %v", ok, err)
	}
	if _, err := client.Register(t.Context(), subject, v1); err != nil {
		t.Fatal(err)
	}
	if ok, reasons, err := client.Compatible(t.Context(), subject, v2); err != nil || !ok {
		t.Fatalf("a field with a default: %v %v %v", ok, reasons, err)
	}
	ok, reasons, err := client.Compatible(t.Context(), subject, breaking)
	if err != nil || ok || len(reasons) == 0 {
		t.Fatalf("a field without a default: %v %q %v", ok, reasons, err)
	}
	_, err = client.Register(t.Context(), subject, breaking)
	var refused *registry.ErrIncompatible
	if !errors.As(err, &refused) || refused.Subject != subject || len(refused.Reasons) == 0 || refused.Reasons[0] == "" {
		t.Fatalf("got %v, want ErrIncompatible with subject and reason", err)
	}
	if registry.IsTransient(err) {
		t.Error("an incompatible schema does not become compatible by itself")
	}
}

func notThere(t *testing.T, client *registry.Client) {
	if _, err := client.Schema(t.Context(), unknownID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
	if _, err := client.Latest(t.Context(), subjectName()); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("unknown subject: %v", err)
	}
	if _, err := client.Lookup(t.Context(), subjectName(), v1); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("lookup under an unknown subject: %v", err)
	}
}

func versions(t *testing.T, client *registry.Client) {
	subject := subjectName()
	var last int
	for _, text := range []string{v1, v2} {
		id, err := client.Register(t.Context(), subject, text)
		if err != nil {
			t.Fatal(err)
		}
		last = id
	}
	latest, err := client.Latest(t.Context(), subject)
	if err != nil || latest.Version != 2 || latest.ID != last || latest.Subject != subject {
		t.Fatalf("latest %+v, %v; want version 2, id %d", latest, err, last)
	}
	first, err := client.Lookup(t.Context(), subject, v1)
	if err != nil || first.Version != 1 || first.ID == last {
		t.Fatalf("lookup %+v, %v; want version 1", first, err)
	}
}

func manyAtOnce(t *testing.T, client *registry.Client) {
	subject := subjectName()
	var wg sync.WaitGroup
	ids := make([]int, 8)
	for i := range ids {
		wg.Go(func() {
			id, err := client.Register(t.Context(), subject, v1)
			if err == nil {
				_, err = client.Schema(t.Context(), id)
			}
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	if slices.Min(ids) != slices.Max(ids) {
		t.Fatalf("one schema, several ids: %v", ids)
	}
}

func Example() {
	server, err := devregistry.New(devregistry.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx) }()

	client, err := registry.New(registry.Config{URL: server.URL()})
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := client.Register(ctx, "shop.orders-shop.OrderPlaced", v1)
	fmt.Println(id, err)
	ok, reasons, err := client.Compatible(ctx, "shop.orders-shop.OrderPlaced", breaking)
	fmt.Println(ok, len(reasons), err)

	cancel()
	fmt.Println(<-stopped)
	// Output:
	// 1 <nil>
	// false 1 <nil>
	// <nil>
}
