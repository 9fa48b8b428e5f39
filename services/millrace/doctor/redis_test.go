package doctor

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/millrace/millrace/consumers/cache"
	"github.com/millrace/millrace/test/harness"
)

func lookAtCache(t *testing.T, url string) Report {
	t.Helper()
	s := Site{Explain: func(err error) error { return err }}
	return Report{s.cache(t.Context(), Cache{"cache", url})}
}

// The policies of a real server, which is the test's own.
func TestWhatRedisMayEvict(t *testing.T) {
	t.Parallel()
	server := harness.RedisServer(t)
	rdb, err := cache.Dial(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	for _, c := range []struct {
		policy, maxmemory string
		want              Severity
		what              string
	}{
		{"noeviction", "0", OK, "is noeviction"},
		{"volatile-lru", "104857600", OK, "is volatile-lru"},
		{"volatile-ttl", "0", OK, "is volatile-ttl"},
		{"noeviction", "104857600", Note, "noeviction, with maxmemory 104857600"},
		{"allkeys-lru", "0", Warning, "no effect as long as"},
		{"allkeys-lru", "104857600", Error, "allkeys-lru, with maxmemory 104857600"},
		{"allkeys-random", "104857600", Error, "allkeys-random"},
	} {
		for name, value := range map[string]string{"maxmemory-policy": c.policy, "maxmemory": c.maxmemory} {
			if err := rdb.ConfigSet(t.Context(), name, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
		r := lookAtCache(t, server.URL)
		r.wants(t, "maxmemory-policy", c.want, c.what, "")
		for _, f := range r.Findings {
			if f.System != "redis" || f.Sink != "cache" || f.Severity != OK && f.Mend == "" {
				t.Errorf("%+v", f)
			}
		}
	}
}

func TestARedisThatIsAwayOrTellsLittle(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t) // knows no CONFIG
	r := lookAtCache(t, "redis://"+mini.Addr())
	r.wants(t, "maxmemory-policy", Warning, "does not tell", "provider")
	address := mini.Addr()
	mini.Close()
	r = lookAtCache(t, "redis://me:s3cret@"+address)
	r.wants(t, "reachable", Error, "", "see that it runs")
	for _, f := range r.Findings {
		if strings.Contains(f.What, "s3cret") {
			t.Errorf("a password is shown: %+v", f)
		}
	}
}
