package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// acked is an event that is in the log.
type acked struct {
	offset int64
	at     time.Time
}

// liveLook is how far the sink was behind at a moment.
type liveLook struct {
	at      time.Time
	seconds float64
	events  int64
	applied int64
}

// liveRead is a reader's question and how long the answer took.
type liveRead struct {
	at time.Time
	ms float64
}

// liveTraffic writes events at a rate, looks how far the sink is with them, and reads.
type liveTraffic struct {
	r    *rebuildRig
	p    *sinkProcess
	t    saleTopic
	quit context.CancelFunc
	once sync.Once
	all  sync.WaitGroup

	mu      sync.Mutex // guards the following
	n       int64      // the number of the next event
	began   time.Time
	ended   time.Time
	waiting map[int32][]acked // those that the sink has not applied, as far as seen
	at      map[int32]int64   // where the sink is
	looks   []liveLook
	reads   []liveRead
	failed  error
}

// startLive starts all of it.
func (r *rebuildRig) startLive(ctx context.Context, p *sinkProcess, place *rebuiltPlace, t saleTopic) (*liveTraffic, error) {
	client, err := r.saleProducer(kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	ask, done, err := place.reader(ctx, p)
	if err != nil {
		client.Close()
		return nil, err
	}
	ctx, quit := context.WithCancel(ctx)
	l := &liveTraffic{r: r, p: p, t: t, quit: quit, n: t.n, began: time.Now(), waiting: map[int32][]acked{}, at: map[int32]int64{}}
	l.all.Go(func() { defer client.Close(); l.fail(l.write(ctx, client)) })
	l.all.Go(func() { l.fail(l.watch(ctx)) })
	l.all.Go(func() { defer done(); l.fail(l.read(ctx, ask)) })
	return l, nil
}

// stop ends it and returns how many events there are.
func (l *liveTraffic) stop() int64 {
	l.once.Do(func() { l.quit(); l.all.Wait() })
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (l *liveTraffic) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

func (l *liveTraffic) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

func (l *liveTraffic) rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return perSecond(l.n-l.t.n, l.ended.Sub(l.began))
}

// write writes events at the rate until ctx ends.
func (l *liveTraffic) write(ctx context.Context, client *kgo.Client) error {
	every := time.NewTicker(liveTick)
	defer every.Stop()
	for n := l.t.n; ; {
		select {
		case <-every.C:
		case <-ctx.Done():
			err := client.Flush(context.WithoutCancel(ctx))
			l.mu.Lock()
			l.n, l.ended = n, time.Now()
			l.mu.Unlock()
			return err
		}
		for due := l.t.n + int64(time.Since(l.began).Seconds()*float64(l.r.o.Rate)); n < due; n++ {
			client.Produce(context.WithoutCancel(ctx), l.r.sale(l.t.name, n), l.took)
		}
	}
}

// took notes that an event is in the log.
func (l *liveTraffic) took(rec *kgo.Record, err error) {
	if err != nil {
		l.fail(fmt.Errorf("write a live event: %w", err))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[rec.Partition] = append(l.waiting[rec.Partition], acked{rec.Offset, time.Now()})
}

// watch looks how far the sink is.
func (l *liveTraffic) watch(ctx context.Context) error {
	for pause(ctx, sinkSampleEvery) == nil {
		at, err := l.p.positions(ctx)
		if err != nil {
			return err
		}
		l.look(time.Now(), at)
	}
	return nil
}

func (l *liveTraffic) look(now time.Time, at map[int32]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	look := liveLook{at: now}
	for p, offset := range at {
		l.at[p] = max(l.at[p], offset) // a process that is changing over tells nothing for a moment
	}
	for p, waiting := range l.waiting {
		i, _ := slices.BinarySearchFunc(waiting, l.at[p], func(a acked, at int64) int { return int(a.offset - at) })
		if waiting = waiting[i:]; len(waiting) > 0 {
			look.seconds = max(look.seconds, now.Sub(waiting[0].at).Seconds())
			look.events += int64(len(waiting))
		}
		l.waiting[p] = waiting
		look.applied += l.at[p]
	}
	l.looks = append(l.looks, look)
}

// read asks what readers ask, again and again. An answer that is an error ends the run: readers never see one.
func (l *liveTraffic) read(ctx context.Context, ask func(context.Context) error) error {
	for pause(ctx, readerPause) == nil {
		began := time.Now()
		if err := ask(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("a reader of %s: %w", l.p.name, err)
		}
		l.mu.Lock()
		l.reads = append(l.reads, liveRead{began, float64(time.Since(began)) / float64(time.Millisecond)})
		l.mu.Unlock()
	}
	return nil
}

// positions are where the generation is that serves, by its own account; nothing while it does not tell.
func (p *sinkProcess) positions(ctx context.Context) (map[int32]int64, error) {
	if !p.process.Running() {
		return nil, fmt.Errorf("%s ended by itself; its last output:\n%s", p.name, last(p.process.Output(), 20))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := asking.Do(req)
	if err != nil {
		return nil, nil // it is slow: how slow is what the next look shows
	}
	defer resp.Body.Close()
	var all map[string]consumers.Status
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, nil
	}
	out := map[int32]int64{}
	for _, part := range all["sink "+p.name].Partitions {
		out[part.Partition] = part.Position
	}
	return out, nil
}
