package e2e

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/test/harness"
)

// servers are proxies before the shared servers, all away at first.
type servers struct{ postgres, kafka, registry, redis *proxy }

// behindProxies is a site that reaches its servers through proxies, with passwords in every address.
func behindProxies(t *testing.T) (*site, *servers, *harness.PostgresDB) {
	t.Helper()
	broker, registry, db := harness.Kafka(t), harness.Registry(t), harness.Postgres(t)
	through := func(address string) (*proxy, *url.URL) {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		p := newProxy(t, u.Host)
		u.Host = p.addr
		u.User = url.UserPassword(u.User.Username(), "s3cret")
		return p, u
	}
	p := &servers{kafka: newProxy(t, broker.Brokers[0])}
	var dsn, reg, red *url.URL
	p.postgres, dsn = through(db.DSN)
	p.registry, reg = through(registry)
	p.redis, red = through(privateRedis(t))
	s := newSite(t, map[string]string{"KAFKA": p.kafka.addr, "REGISTRY": reg.String(), "DATABASE_URL": dsn.String(), "REDIS": red.String()})
	s.deleteTopics(broker)
	return s, p, db
}

// privateRedis is a Redis that asks for a password.
func privateRedis(t *testing.T) string {
	server := harness.RedisServer(t)
	db := harness.RedisDB{URL: server.URL}
	if err := db.Client(t).ConfigSet(t.Context(), "requirepass", "s3cret").Err(); err != nil {
		t.Fatal(err)
	}
	return server.URL
}

// A server that is away at the start is waited for, with a line when that begins and a line when it ends and not one an attempt;
// when it appears everything goes on by itself. The same holds when it goes away later. No log shows a secret.
func TestServersThatAreAwayAreWaitedForWithoutNoise(t *testing.T) {
	t.Parallel()
	s, servers, db := behindProxies(t)
	conn := db.Conn(t)
	up := s.start("up")
	up.WaitLine(t, "msg=started", patience)
	begun := time.Now()
	for _, who := range []string{"relay " + s.name, "sink " + s.name + "-warehouse", "sink " + s.name + "-search", "sink " + s.name + "-cache"} {
		s.waitReady(who, false)
	}
	// Long enough for many attempts: every retry in there has a pause of 5 s at most.
	select {
	case <-up.Done():
		t.Fatalf("up has ended:\n%s", up.Output())
	case <-time.After(quietFor - time.Since(begun)):
	}
	waiting := up.Output()
	if n := strings.Count(waiting, "\n"); n > 20 {
		t.Errorf("%d lines in %v of waiting:\n%s", n, quietFor, waiting)
	}

	// The tables are made while the relay cannot see it: one that finds a database without them stops and says so.
	direct := *s
	direct.env = append(slices.Clone(s.env), "DATABASE_URL="+db.DSN)
	direct.setUp()
	servers.postgres.back()
	servers.kafka.back()
	servers.registry.back()
	servers.redis.back()
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	emit(t, conn, "post.DepotOpened", `{"depot_id":"d1","name":"North","city":"Kiel"}`)
	s.waitStatus("everything came up by itself", caughtUp(2))
	for _, who := range []string{"relay " + s.name, "sink " + s.name + "-warehouse", "sink " + s.name + "-search", "sink " + s.name + "-cache"} {
		s.waitReady(who, true)
	}

	// In mid-run: each server in turn is cut off and comes back.
	for i, p := range []*proxy{servers.postgres, servers.registry, servers.redis} {
		before := len(up.Output())
		p.away()
		if p == servers.redis {
			emit(t, conn, "post.ParcelMoved", moved("p1", "d2")) // something to do, so that it is missed
		}
		if p != servers.registry { // which nobody needs while its ids are known
			eventually(t, "somebody is not ready", func() bool { return s.ready() != 200 })
		}
		p.back()
		eventually(t, "everybody is ready again", func() bool { return s.ready() == 200 })
		emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))
		want := int64(3 + i)
		if i == 2 {
			want++
		}
		s.waitStatus("events flow again", caughtUp(want))
		if n := strings.Count(up.Output()[before:], "\n"); n > 12 {
			t.Errorf("%d lines of an outage:\n%s", n, up.Output()[before:])
		}
	}
	if code := up.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d", code)
	}
	if log := up.Output(); strings.Contains(log, "s3cret") || strings.Contains(log, "panic") {
		t.Errorf("the log:\n%s", log)
	}
	t.Logf("its log:\n%s", up.Output())
}

// quietFor is how long the log of a process that waits is watched.
const quietFor = 12 * time.Second
