package redis

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/sinktest"
	"github.com/millrace/millrace/test/harness"
)

func TestSinkOnRealRedis(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{url: harness.Redis(t).URL} })
}

func TestSinkOnRealRedisWithEveryBatchCutUp(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{url: harness.Redis(t).URL, maxKeys: 2} })
}

func TestSinkOnMiniredis(t *testing.T) {
	sinktest.Run(t, func(t testing.TB) sinktest.Backend { return &backend{url: mini(t)} })
}

func mini(t testing.TB) string {
	t.Helper()
	server, err := miniredis.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return "redis://" + server.Addr()
}

// backend is a server under test.
type backend struct {
	url     string
	maxKeys int // of a script; zero is as in production
	last    map[int]*Sink
	reader  *Sink // looks, and writes nothing
}

func (b *backend) look(t testing.TB) *Sink {
	t.Helper()
	if b.reader == nil {
		b.reader = open(t, b.url, sinktest.Projections()...)
	}
	return b.reader
}

var _ sinktest.Generations = (*backend)(nil)

func open(t testing.TB, url string, projections ...fold.Projection) *Sink {
	t.Helper()
	return openGeneration(t, url, 1, projections...)
}

func openGeneration(t testing.TB, url string, generation int, projections ...fold.Projection) *Sink {
	t.Helper()
	s, err := Open(Config{URL: url, Prefix: "test", Generation: generation, Projections: projections, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (b *backend) Open(t testing.TB) fold.Sink { return b.OpenGeneration(t, 1) }

func (b *backend) OpenGeneration(t testing.TB, generation int) fold.Sink {
	t.Helper()
	s := openGeneration(t, b.url, generation, sinktest.Projections()...)
	if b.maxKeys > 0 {
		s.maxKeys = b.maxKeys
	}
	if b.last == nil {
		b.last = map[int]*Sink{}
	}
	b.last[generation] = s
	return s
}

func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	return dump(t, b.last[1], entity)
}

func dump(t testing.TB, s *Sink, entity string) map[string]fold.Stored {
	t.Helper()
	ctx := context.Background()
	prefix := s.names.State(entity, "")
	var keys []string
	for scan := s.rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator(); scan.Next(ctx); {
		keys = append(keys, strings.TrimPrefix(scan.Val(), prefix))
	}
	out, err := s.Load(ctx, entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	for key, state := range out {
		if !state.Exists {
			delete(out, key)
		}
	}
	return out
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers {
	return sinktest.Offers{Snapshots: true, Generations: true, Replace: true}
}

// ReadServing returns the states of the generation that readers use.
func (b *backend) ReadServing(t testing.TB, entity string) (map[string]fold.Stored, bool) {
	t.Helper()
	serving, err := b.look(t).serving(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return dump(t, openGeneration(t, b.url, serving, sinktest.Projections()...), entity), true
}

// TellsBehind implements sinktest.Generations.
func (b *backend) TellsBehind() bool { return true }

// Traces implements sinktest.Generations.
func (b *backend) Traces(t testing.TB, generation int) (left []string) {
	t.Helper()
	ctx := context.Background()
	s := b.look(t)
	for scan := s.rdb.Scan(ctx, 0, s.names.Of(generation).All()+"*", 1000).Iterator(); scan.Next(ctx); {
		left = append(left, scan.Val())
	}
	return left
}

func (b *backend) ServePoints() []string { return []string{"before serving", "after serving"} }

func (b *backend) RemovePoints() []string {
	return []string{"before the removal", "without positions", "half removed"}
}

func (b *backend) CrashServing(_ testing.TB, generation int, at string) {
	b.last[generation].crash = killedAt(at)
}

func (b *backend) CrashPoints() []string {
	if b.maxKeys > 0 {
		return []string{"before the first script", "after a script", "before the last script"}
	}
	return []string{"before the first script", "after a script"}
}

func (b *backend) CrashAt(_ testing.TB, at string) { b.last[1].crash = killedAt(at) }

func killedAt(at string) func(string) error {
	return func(point string) error {
		if point == at {
			return errors.New("killed " + point)
		}
		return nil
	}
}

// names are those of the sinks of the tests.
func names(t testing.TB) cache.Names {
	t.Helper()
	n, err := cache.Names{Prefix: "test"}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
