package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/millrace/millrace/test/bench/measure"
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
		warm, err := r.sales(ctx, lanes, r.opts.Warmup)
		if err != nil {
			return err
		}
		if _, err := r.searchOnce(ctx, url, warm, lanes); err != nil {
			return err
		}
	}
	c := r.report.in("OpenSearch, " + laneWords(lanes))
	for rep := range r.opts.Reps {
		r.say("OpenSearch with %s, %d of %d", laneWords(lanes), rep+1, r.opts.Reps)
		d, err := r.searchOnce(ctx, url, t, lanes)
		if err != nil {
			return err
		}
		c.row("part of the ceiling", "", d.rate/d.ceiling, atLeast(0.85))
		c.row("part of bulk requests of documents like the sink's", "", d.rate/d.own)
		c.sinkRows(d.sinkDrained, mostSink)
		c.row("ceiling: bulk requests of 5,000 from memory", "1/s", d.ceiling)
		c.row("ceiling: CPU per million of the server", "s", d.ceilingCPU)
		c.row("documents like the sink's, from memory", "1/s", d.own)
		c.row("documents like the sink's: CPU per million of the server", "s", d.ownCPU)
		r.say("%s events/s, %.2f of the ceiling (%s/s), %.2f of documents like its own (%s/s)", thousands(int64(d.rate)), d.rate/d.ceiling,
			thousands(int64(d.ceiling)), d.rate/d.own, thousands(int64(d.own)))
	}
	return nil
}

// searched is what the sink and the ceilings came to.
type searched struct {
	sinkDrained
	ceiling, own       float64 // events a second: plain documents, and documents like the sink's
	ceilingCPU, ownCPU float64 // CPU seconds of the server per million events
}

// searchOnce measures the sink and the ceilings.
func (r *sinkRig) searchOnce(ctx context.Context, url string, t saleTopic, lanes int) (d searched, err error) {
	r.runs++
	prefix := fmt.Sprintf("bench%d", r.runs)
	defer func() {
		if rerr := searchDo(context.WithoutCancel(ctx), http.MethodDelete, url+"/"+prefix+"*", nil, nil); rerr != nil && err == nil {
			err = rerr
		}
	}()
	d.sinkDrained, err = r.drainSink(ctx, sinkSetup{
		topic: t, declare: declareAll, lines: []string{"kind: opensearch", fmt.Sprintf("url: %q", url), "index_prefix: " + prefix}, pid: r.search.PID(),
	})
	if err != nil {
		return d, err
	}
	if err := searchHolds(ctx, url, prefix+"-sale-g1", t.n); err != nil {
		return d, err
	}
	if d.ceiling, d.ceilingCPU, err = r.bulkCeiling(ctx, url, prefix, t.n, lanes, appendPlain); err != nil {
		return d, err
	}
	d.own, d.ownCPU, err = r.bulkCeiling(ctx, url, prefix, t.n, lanes, appendOwn)
	return d, err
}

// appendPlain appends event at to a bulk request: a document of the fields alone.
func appendPlain(b []byte, s *sale, key string, at int64) []byte {
	b = append(append(append(b, `{"index":{"_id":"`...), key...), "\"}}\n"...)
	return append(append(b, saleJSON(s, key, at)...), '\n')
}

// appendOwn appends event at as the sink does: with the version that guards the document, the key, and the state by which the sink goes on.
func appendOwn(b []byte, s *sale, key string, at int64) []byte {
	plain := saleJSON(s, key, at)
	state := base64.StdEncoding.EncodeToString([]byte(plain)[:stateBytes])
	return fmt.Appendf(b, `{"index":{"_id":%q,"version":%d,"version_type":"external"}}`+"\n"+`{"_state":%q,"_key":%q,"_live":true,%s`+"\n", key, at+1, state, key, plain[1:])
}

// stateBytes is about the size of a sale's state.
const stateBytes = 170

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
func (r *sinkRig) bulkCeiling(ctx context.Context, url, prefix string, n int64, lanes int, add func(b []byte, s *sale, key string, at int64) []byte) (rate, cpu float64, err error) {
	var made map[string]struct {
		Mappings json.RawMessage `json:"mappings"`
	}
	if err := searchDo(ctx, http.MethodGet, url+"/"+prefix+"-sale-g1/_mapping", nil, &made); err != nil {
		return 0, 0, err
	}
	index := prefix + "-ceiling"
	body := fmt.Appendf(nil, `{"settings": {"index": {"refresh_interval": "1s", "number_of_replicas": 1}}, "mappings": %s}`, made[prefix+"-sale-g1"].Mappings)
	if err := searchDo(ctx, http.MethodPut, url+"/"+index, body, nil); err != nil {
		return 0, 0, err
	}
	bodies := make([][][]byte, lanes)
	for lane, all := range batches(n, lanes, ceilingBatch) {
		for _, batch := range all {
			var b []byte
			for _, at := range batch {
				b = add(b, r.sold.of(at), saleKeyText(saleKey(at)), at)
			}
			bodies[lane] = append(bodies[lane], b)
		}
	}
	began, before := time.Now(), measure.TreeCPU(r.search.PID())
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
			return 0, 0, fmt.Errorf("write documents from memory: %w", err)
		}
	}
	rate, cpu = perSecond(n, time.Since(began)), perMillion(measure.TreeCPU(r.search.PID())-before, n)
	err = searchHolds(ctx, url, index, n)
	return rate, cpu, errors.Join(err, searchDo(ctx, http.MethodDelete, url+"/"+index, nil, nil))
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
