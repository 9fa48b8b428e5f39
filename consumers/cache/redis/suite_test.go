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
	last    *Sink
}

func open(t testing.TB, url string, projections ...fold.Projection) *Sink {
	t.Helper()
	s, err := Open(Config{URL: url, Prefix: "test", Projections: projections, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (b *backend) Open(t testing.TB) fold.Sink {
	t.Helper()
	b.last = open(t, b.url, sinktest.Projections()...)
	if b.maxKeys > 0 {
		b.last.maxKeys = b.maxKeys
	}
	return b.last
}

func (b *backend) Dump(t testing.TB, entity string) map[string]fold.Stored {
	t.Helper()
	ctx := context.Background()
	prefix := b.last.names.State(entity, "")
	var keys []string
	for scan := b.last.rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator(); scan.Next(ctx); {
		keys = append(keys, strings.TrimPrefix(scan.Val(), prefix))
	}
	out, err := b.last.Load(ctx, entity, keys)
	if err != nil {
		t.Fatal(err)
	}
	for key, s := range out {
		if !s.Exists {
			delete(out, key)
		}
	}
	return out
}

// Offers implements sinktest.Backend.
func (b *backend) Offers() sinktest.Offers { return sinktest.Offers{} }

func (b *backend) CrashPoints() []string {
	if b.maxKeys > 0 {
		return []string{"before the first script", "after a script", "before the last script"}
	}
	return []string{"before the first script", "after a script"}
}

func (b *backend) CrashAt(_ testing.TB, at string) {
	b.last.crash = func(point string) error {
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
