package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers/cache"
)

// Cache is a cache sink: its name, and how its Redis is reached.
type Cache struct {
	Sink, URL string
}

var cacheChecks = []check[redis.UniversalClient]{
	{"maxmemory-policy", evictionPolicy},
}

// cache looks at the server of a cache sink.
func (s Site) cache(ctx context.Context, c Cache) []Finding {
	const why = "values are not invalidated until it answers: applications are served what was, up to the time to live"
	rdb, err := cache.Dial(c.URL)
	if err != nil {
		return of(c, s.away("redis", "", why, err))
	}
	defer rdb.Close()
	if err := rdb.Ping(ctx).Err(); err != nil {
		return of(c, s.away("redis", "", why, err))
	}
	reached := Finding{System: "redis", Check: "reachable", Severity: OK, What: "redis answers"}
	return of(c, append([]Finding{reached}, examine(ctx, "redis", "", rdb, cacheChecks)...))
}

// of says of findings which sink they concern.
func of(c Cache, all []Finding) []Finding {
	for i := range all {
		all[i].Sink = c.Sink
	}
	return all
}

const (
	whyEviction  = "states and positions of the sink have no time to live and stand beside the values: evicted, invalidations are forgotten, or everything is read anew"
	mendEviction = "redis-cli CONFIG SET maxmemory-policy volatile-lru (and in redis.conf), which evicts cached values only; or give the sink a server of its own"
)

// evictionPolicy says whether the server could evict what the sink must keep.
func evictionPolicy(ctx context.Context, rdb redis.UniversalClient) ([]Finding, error) {
	set, err := rdb.ConfigGet(ctx, "maxmemory*").Result()
	var refused redis.Error
	if errors.As(err, &refused) {
		return found(Warning, "the server does not tell its maxmemory-policy", whyEviction, "see in the provider's settings that it is noeviction or one of volatile-*"), nil
	}
	if err != nil {
		return nil, err
	}
	policy, limit := set["maxmemory-policy"], set["maxmemory"]
	limited := limit != "" && limit != "0"
	switch {
	case strings.HasPrefix(policy, "allkeys-") && limited:
		return found(Error, fmt.Sprintf("maxmemory-policy is %s, with maxmemory %s", policy, limit), whyEviction, mendEviction), nil
	case strings.HasPrefix(policy, "allkeys-"):
		return found(Warning, fmt.Sprintf("maxmemory-policy is %s, which has no effect as long as there is no maxmemory", policy), whyEviction, mendEviction), nil
	case policy == "noeviction" && limited:
		return found(Note, "maxmemory-policy is noeviction, with maxmemory "+limit, "when it is full nothing can be written: the sink stops, and nothing is cached",
			"redis-cli CONFIG SET maxmemory-policy volatile-lru, which makes room by evicting cached values"), nil
	}
	return fine("maxmemory-policy is %s: what must be kept is not evicted", policy), nil
}
