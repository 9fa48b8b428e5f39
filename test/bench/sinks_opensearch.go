package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// openSearchCase measures documents in OpenSearch, against plain documents from memory in requests of 5,000, as many under way as there
// are lanes.
func (r *sinkRig) openSearchCase(ctx context.Context, lanes int) error {
	url, err := r.openSearch()
	if err != nil {
		return err
	}
	n := r.opts.Events
	t, err := r.sales(ctx, lanes, n)
	if err != nil {
		return err
	}
	if !r.searched && r.opts.Warmup > 0 {
		r.searched = true
		r.say("warm-up: OpenSearch")
		if _, _, err := r.searchPair(ctx, url, t, lanes); err != nil {
			return err
		}
	}
	c := r.report.in("OpenSearch, " + laneWords(lanes))
	for rep := range r.opts.Reps {
		r.say("OpenSearch with %s, %d of %d", laneWords(lanes), rep+1, r.opts.Reps)
		d, ceiling, err := r.searchPair(ctx, url, t, lanes)
		if err != nil {
			return err
		}
		c.row("part of the ceiling", "", d.rate/ceiling, atLeast(0.85))
		c.sinkRows(d, mostSink)
		c.row("ceiling: bulk requests of 5,000 from memory", "1/s", ceiling)
		r.say("%s events/s, %.2f of the ceiling (%s/s)", thousands(int64(d.rate)), d.rate/ceiling, thousands(int64(ceiling)))
	}
	return nil
}

// searchPair measures the sink and the ceiling.
func (r *sinkRig) searchPair(ctx context.Context, url string, t saleTopic, lanes int) (d sinkDrained, ceiling float64, err error) {
	r.runs++
	prefix := fmt.Sprintf("bench%d", r.runs)
	defer func() {
		if rerr := searchDo(context.WithoutCancel(ctx), http.MethodDelete, url+"/"+prefix+"*", nil, nil); rerr != nil && err == nil {
			err = rerr
		}
	}()
	d, err = r.drainSink(ctx, sinkSetup{
		topic: t, declare: declareAll, lines: []string{"kind: opensearch", fmt.Sprintf("url: %q", url), "index_prefix: " + prefix}, pid: r.search.PID(),
	})
	if err != nil {
		return d, 0, err
	}
	if err := searchHolds(ctx, url, prefix+"-sale-g1", t.n); err != nil {
		return d, 0, err
	}
	ceiling, err = r.bulkCeiling(ctx, url, prefix, t.n, lanes)
	return d, ceiling, err
}

// searchHolds compares the documents with what should be there.
func searchHolds(ctx context.Context, url, index string, n int64) error {
	if err := searchDo(ctx, http.MethodPost, url+"/"+index+"/_refresh", nil, nil); err != nil {
		return err
	}
	var found struct {
		Hits struct {
			Total struct {
				Value int64 `json:"value"`
			} `json:"total"`
		} `json:"hits"`
		Aggregations struct {
			Sum struct {
				Value float64 `json:"value"`
			} `json:"sum"`
		} `json:"aggregations"`
	}
	query := []byte(`{"size": 0, "track_total_hits": true, "aggs": {"sum": {"sum": {"field": "n"}}}}`)
	if err := searchDo(ctx, http.MethodPost, url+"/"+index+"/_search", query, &found); err != nil {
		return err
	}
	_, keys, sum := latest(n)
	return same(found.Hits.Total.Value, int64(found.Aggregations.Sum.Value), keys, sum)
}

// bulkCeiling writes the newest documents of each batch, ready in memory, into an index with the sink's own mapping.
func (r *sinkRig) bulkCeiling(ctx context.Context, url, prefix string, n int64, lanes int) (float64, error) {
	var made map[string]struct {
		Mappings json.RawMessage `json:"mappings"`
	}
	if err := searchDo(ctx, http.MethodGet, url+"/"+prefix+"-sale-g1/_mapping", nil, &made); err != nil {
		return 0, err
	}
	index := prefix + "-ceiling"
	body := fmt.Appendf(nil, `{"settings": {"index": {"refresh_interval": "1s", "number_of_replicas": 1}}, "mappings": %s}`, made[prefix+"-sale-g1"].Mappings)
	if err := searchDo(ctx, http.MethodPut, url+"/"+index, body, nil); err != nil {
		return 0, err
	}
	bodies := make([][][]byte, lanes)
	for lane, all := range batches(n, lanes, ceilingBatch) {
		for _, batch := range all {
			var b []byte
			for _, at := range batch {
				key, s := saleKeyText(saleKey(at)), r.sold.of(at)
				b = append(append(append(b, `{"index":{"_id":"`...), key...), "\"}}\n"...)
				b = append(append(b, saleJSON(s, key, at)...), '\n')
			}
			bodies[lane] = append(bodies[lane], b)
		}
	}
	began := time.Now()
	var all sync.WaitGroup
	errs := make([]error, lanes)
	for lane := range lanes {
		all.Go(func() {
			for _, b := range bodies[lane] {
				var answer struct {
					Errors bool `json:"errors"`
				}
				if errs[lane] = searchDo(ctx, http.MethodPost, url+"/"+index+"/_bulk?filter_path=errors", b, &answer); errs[lane] != nil {
					return
				}
				if answer.Errors {
					errs[lane] = fmt.Errorf("a bulk request had errors")
					return
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, fmt.Errorf("write documents from memory: %w", err)
		}
	}
	took := time.Since(began)
	return perSecond(n, took), searchHolds(ctx, url, index, n)
}

// searchPatience is more than any one request of a run takes.
var searchPatience = &http.Client{Timeout: 2 * time.Minute}

func searchDo(ctx context.Context, method, url string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		if bytes.HasSuffix(body, []byte("\n")) { // requests of many lines end in one
			req.Header.Set("Content-Type", "application/x-ndjson")
		}
	}
	resp, err := searchPatience.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, strconv.QuoteToASCII(string(raw[:min(len(raw), 300)])))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	return nil
}
