package demo

import (
	"context"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers/cache/redis"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/services/shop"
)

// where is the place the proof and the results look at.
func (d *demo) where() Where {
	base := "http://" + d.site.sinksHTTP + "/v1/sinks/"
	return Where{
		Postgres: d.world.postgres, Brokers: d.world.brokers, Topics: d.world.topics(),
		SQL: base + d.world.sinkName("warehouse") + "/sql", Search: base + d.world.sinkName("search") + "/search",
	}
}

// results shows what people came for.
func (d *demo) results(ctx context.Context) error {
	for _, show := range []func(context.Context) error{d.revenue, d.search} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	return nil
}

const revenueSQL = `select strftime(placed_at, '%Y-%m-%d') as day, count(*), cast(sum(total) as varchar)
from silver."order" where status in ('paid', 'shipped', 'delivered') group by day order by day`

// revenue asks the warehouse for the revenue of each day.
func (d *demo) revenue(ctx context.Context) error {
	began := time.Now()
	rows, err := askSQL(ctx, d.where().SQL, revenueSQL)
	if err != nil {
		return fmt.Errorf("ask the warehouse: %w", err)
	}
	d.line("\n  " + bold.Render("Revenue per day") + faint.Render(fmt.Sprintf("   from the warehouse, in SQL, %s", short(time.Since(began)))))
	most := new(big.Rat)
	amounts := make([]*big.Rat, len(rows))
	for i, r := range rows {
		amounts[i], _ = new(big.Rat).SetString(fmt.Sprint(r[2]))
		if amounts[i] != nil && amounts[i].Cmp(most) > 0 {
			most = amounts[i]
		}
	}
	for i, r := range rows {
		share := 0.0
		if amounts[i] != nil && most.Sign() > 0 {
			share, _ = new(big.Rat).Quo(amounts[i], most).Float64()
		}
		d.line(fmt.Sprintf("    %s  %12s EUR  %5s orders  %s", r[0], r[2], r[1], accent.Render(strings.Repeat("▇", int(share*30)))))
	}
	return nil
}

// search looks for a product by a word of its name.
func (d *demo) search(ctx context.Context) error {
	names, err := askSQL(ctx, d.where().SQL, "select name from silver.product order by _key limit 1")
	if err != nil || len(names) == 0 {
		return err
	}
	words := strings.Fields(fmt.Sprint(names[0][0]))
	word := strings.ToLower(words[len(words)-1])
	began := time.Now()
	found, err := askSearch(ctx, d.where().Search, url.Values{"entity": {"product"}, "q": {word}, "size": {"3"}})
	if err != nil {
		return fmt.Errorf("ask the search index: %w", err)
	}
	d.line("\n  " + bold.Render(fmt.Sprintf("Search for %q", word)) + faint.Render(fmt.Sprintf("   %d products, %s", found.Total, short(time.Since(began)))))
	for _, h := range found.Hits {
		d.line(fmt.Sprintf("    %s  %-32v %10s EUR", h.Key, h.Fields["name"], field(h.Fields["price"], "price")))
	}
	return nil
}

// applied tells the shop's price page how far the cache is invalidated: the sink keeps the row version of each product.
func (d *demo) applied() (func(context.Context, string) (int64, bool, error), error) {
	catalogue, err := schemas.LoadDir(d.site.dir + "/schemas")
	if err != nil {
		return nil, err
	}
	projections, err := projection.Load(catalogue, d.site.dir+"/projections/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []fold.Projection
	var columns []projection.Column
	for _, p := range projections {
		all = append(all, p)
		if p.Entity() == "product" {
			columns = p.Columns()
		}
	}
	s, err := redis.Open(redis.Config{URL: d.world.redis, Prefix: d.world.cachePrefix(), Projections: all, Logger: quiet})
	if err != nil {
		return nil, err
	}
	d.world.atEnd(s.Close)
	return shop.AppliedBy(s.Load, columns), nil
}

// prove shows the proof, and says how it ended.
func (d *demo) prove(ctx context.Context) error {
	d.line("\n  " + bold.Render("The proof"))
	checks, err := Prove(ctx, d.where())
	if err == nil {
		var cache Check
		if cache, err = d.proveCache(ctx); err == nil {
			checks = append(checks, cache)
		}
	}
	proved := err == nil
	for _, c := range checks {
		mark := good.Render("✓")
		if !c.OK {
			mark, proved = bad.Render("✗"), false
		}
		d.line(fmt.Sprintf("    %s %s", mark, c.Claim))
		d.line("      " + faint.Render(c.Detail))
	}
	d.line("")
	switch {
	case err != nil:
		return fmt.Errorf("the proof could not be finished: %w", err)
	case !proved:
		return ErrNotProved
	}
	d.line("  " + good.Render("Proved.") + faint.Render(fmt.Sprintf(" Nothing lost, nothing twice, every key in order. %s in all.", short(time.Since(d.began)))))
	if d.cfg.Keep != "" {
		d.line("  " + faint.Render("Configuration, data and logs: "+d.site.dir))
	}
	return nil
}

// proveCache looks at what the visitors were shown, and at every page that is still in the cache.
func (d *demo) proveCache(ctx context.Context) (Check, error) {
	left, cached, err := d.shop.CheckPages(ctx)
	if err != nil {
		return Check{}, fmt.Errorf("look at the cached pages: %w", err)
	}
	p := d.shop.Progress()
	return Check{"the cache never served a stale price", p.Stale == 0 && len(left) == 0 && p.Hits > 0,
		fmt.Sprintf("%s pages shown, %s from the cache, %d stale; %d of %d in it stale now",
			number(p.Views), number(p.Hits), p.Stale, len(left), cached)}, nil
}
