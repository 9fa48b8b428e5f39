package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/consumers/cache/client"
)

// seen is what a reader saw of a key: how many events, and the version of the last one.
type seen struct{ n, seq int64 }

// reader asks the sink all the time, as an application does, and remembers the newest that it has seen of each key.
type reader struct {
	r    *rig
	ask  func(context.Context) (map[string]seen, error)
	stop func()

	mu      sync.Mutex // guards the following
	answers int
	newest  map[string]seen
}

// watch begins to read. When the test ends, or stop is called, the reader must have had answers.
//
// Promise 8: readers never see a gap, an empty answer or a step back in time. (bleve shows what it has not written down yet, so that its first answers after a
// kill may be older than the last before, whether or not there is a rebuild.)
func (r *rig) watch() *reader {
	r.t.Helper()
	d := &reader{r: r, newest: map[string]seen{}}
	d.ask = r.asker()
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			if err := d.look(ctx); err != nil {
				r.t.Errorf("a reader: %v", err)
				return
			}
			time.Sleep(3 * time.Millisecond) // so that it takes not all of the machine
		}
	})
	d.stop = sync.OnceFunc(func() { cancel(); reading.Wait() })
	r.t.Cleanup(d.stop)
	return d
}

// look asks once. Nothing is said by the silence of a process that was killed, or starts; a server answers always.
func (d *reader) look(ctx context.Context) error {
	p := d.r.process()
	got, err := d.ask(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil && embedded(d.r.kind) && (p != d.r.process() || !p.Running() || p.killed.Load() || !p.answered.Load()):
		return nil
	case err != nil && p.killed.Load() && embedded(d.r.kind):
		return nil
	case err != nil && embedded(d.r.kind):
		// It may be dying: what was killed by itself at a point is told by its end.
		select {
		case <-p.Done():
			return nil
		case <-time.After(5 * time.Second):
			return fmt.Errorf("no answer: %w", err)
		}
	case err != nil:
		return fmt.Errorf("no answer: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if first := !p.answered.Swap(true); first && d.r.kind == "bleve" && d.r.crashed() {
		d.newest = map[string]seen{}
	}
	d.answers++
	for key, was := range d.newest {
		now, there := got[key]
		switch {
		case !there:
			return fmt.Errorf("%d keys, %s is gone: after %+v", len(got), key, was)
		case now.n < was.n || now.seq < was.seq:
			return fmt.Errorf("%s stepped back from %+v to %+v", key, was, now)
		}
	}
	for key, now := range got {
		d.newest[key] = now
	}
	return nil
}

// more waits until the reader has had answers that were asked for from now on.
func (d *reader) more() {
	d.r.t.Helper()
	count := func() int { d.mu.Lock(); defer d.mu.Unlock(); return d.answers }
	from := count()
	d.r.eventually("answers", func() error {
		if n := count() - from; n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// end stops the reader when it has seen all there is: what a search shows is a refresh behind what is stored.
func (d *reader) end() {
	d.r.t.Helper()
	d.more()
	for deadline := time.Now().Add(patience); len(d.unseen()) > 0 && time.Now().Before(deadline); {
		d.more()
	}
	d.stop()
	for _, what := range d.unseen() {
		d.r.t.Error(what)
	}
	d.r.t.Logf("%s: %d answers were read", d.r.kind, d.answers)
}

// unseen tells what the reader has not seen yet.
func (d *reader) unseen() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, want := range d.r.now() {
		if got := d.newest[key]; got != (seen{want.n, want.seq}) {
			out = append(out, fmt.Sprintf("the reader saw %+v of %s last, which is %+v", got, key, want))
		}
	}
	return out
}

// asker is how readers of this kind of sink ask.
func (r *rig) asker() func(context.Context) (map[string]seen, error) {
	switch r.kind {
	case "postgres":
		return r.askPostgres()
	case "redis":
		return r.askCache()
	case "opensearch":
		return r.askAlias
	case "duckdb":
		return r.askSQL
	}
	return r.askSearch
}

// askPostgres reads the view that everybody reads, in the server itself.
func (r *rig) askPostgres() func(context.Context) (map[string]seen, error) {
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return func(ctx context.Context) (map[string]seen, error) {
		rows, err := conn.Query(ctx, "select _key, n, seq from silver.account")
		if err != nil {
			return nil, err
		}
		out := map[string]seen{}
		var key string
		var s seen
		_, err = pgx.ForEachRow(rows, []any{&key, &s.n, &s.seq}, func() error { out[key] = s; return nil })
		return out, err
	}
}

// askSQL asks the process in SQL.
func (r *rig) askSQL(ctx context.Context) (map[string]seen, error) {
	var answer struct{ Rows [][]any }
	if err := call(ctx, http.MethodPost, "http://"+r.listen+"/v1/sinks/"+r.name+"/sql", map[string]any{"sql": "select _key, n, seq from silver.account"}, &answer); err != nil {
		return nil, err
	}
	out := map[string]seen{}
	for _, row := range answer.Rows {
		n, err := whole(row[1])
		seq, err2 := whole(row[2])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		out[fmt.Sprint(row[0])] = seen{n, seq}
	}
	return out, nil
}

// askSearch asks the process for every document.
func (r *rig) askSearch(ctx context.Context) (map[string]seen, error) {
	var answer struct {
		Hits []struct {
			Key    string
			Fields map[string]any
		}
	}
	if err := call(ctx, http.MethodGet, "http://"+r.listen+"/v1/sinks/"+r.name+"/search?entity=account&size=1000", nil, &answer); err != nil {
		return nil, err
	}
	out := map[string]seen{}
	for _, h := range answer.Hits {
		n, err := whole(h.Fields["n"])
		seq, err2 := whole(h.Fields["seq"])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		out[h.Key] = seen{n, seq}
	}
	return out, nil
}

// askAlias searches the alias that everybody searches, in the server itself.
func (r *rig) askAlias(ctx context.Context) (map[string]seen, error) {
	var answer struct {
		Shards struct{ Failed int } `json:"_shards"`
		Hits   struct {
			Hits []struct {
				Source struct {
					Key    string `json:"_key"`
					N, Seq int64
				} `json:"_source"`
			}
		}
	}
	err := call(ctx, http.MethodPost, r.url+"/"+r.name+"-account/_search", map[string]any{"size": 1000, "query": map[string]any{"term": map[string]any{"_live": true}}}, &answer)
	if err == nil && answer.Shards.Failed > 0 {
		err = fmt.Errorf("%d shards failed", answer.Shards.Failed)
	}
	out := map[string]seen{}
	for _, h := range answer.Hits.Hits {
		out[h.Source.Key] = seen{h.Source.N, h.Source.Seq}
	}
	return out, err
}

// askCache reads through the cache, as an application does whose database is the truth.
func (r *rig) askCache() func(context.Context) (map[string]seen, error) {
	c, err := client.New(client.Config{URL: r.url, Prefix: r.name + ":"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return func(ctx context.Context) (map[string]seen, error) {
		out := map[string]seen{}
		for key := range r.now() {
			value, _, err := c.Fetch(ctx, "account:"+key, time.Hour, func(context.Context) ([]byte, error) {
				a := r.now()[key]
				return json.Marshal([2]int64{a.n, a.seq})
			})
			var pair [2]int64
			if err == nil {
				err = json.Unmarshal(value, &pair)
			}
			if err != nil {
				return nil, err
			}
			out[key] = seen{pair[0], pair[1]}
		}
		return out, nil
	}
}

func call(ctx context.Context, method, url string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := asking.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var text strings.Builder
		_ = resp.Write(&text)
		return fmt.Errorf("%s %s: %.500s", method, url, text.String())
	}
	dec := json.NewDecoder(resp.Body)
	dec.UseNumber()
	return dec.Decode(answer)
}

// whole is a number of an answer.
func whole(v any) (n int64, err error) {
	_, err = fmt.Sscan(fmt.Sprint(v), &n)
	return n, err
}
