package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// stats is the run at one instant, as the live view shows it.
type stats struct {
	elapsed time.Duration
	shop    shopStats
	relay   relayStats
	sinks   []sinkStats
	reads   readStats
}

type shopStats struct {
	committed, target int64
	atMost            bool // the run is bounded in time: it may end before the target
	rolledBack        int64
	rate              float64
}

type relayStats struct {
	pid       int
	state     string // what it does, in a word or two
	down      bool
	published int64
	rate      float64
	behind    int64
}

type sinkStats struct {
	role string
	ok   bool
	// lag is how many records it has still to apply, applied about how many events it has, rate that of the last seconds.
	lag, applied int64
	rate         float64
	// positions are by place.
	positions map[string]int64
	// age is how old the youngest moment is up to which the sink holds everything; 0 if it is not known.
	age time.Duration
}

type readStats struct {
	reads, hits, stale int64
	rate               float64
}

// children is how the children are asked.
var children = &http.Client{Timeout: 2 * time.Second}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := children.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(into)
}

// relayAnswer and sinkAnswer are what is read of a role's status.
type relayAnswer struct {
	State   string  `json:"state"`
	Reason  string  `json:"reason"`
	Seq     int64   `json:"seq"`
	Rate    float64 `json:"rate"`
	Backlog int64   `json:"backlog"`
	Parked  int64   `json:"parked"`
}

type sinkAnswer struct {
	Problem    string `json:"problem"`
	Partitions []struct {
		Topic        string    `json:"topic"`
		Partition    int32     `json:"partition"`
		Position     int64     `json:"position"`
		ValidThrough time.Time `json:"valid_through"`
	} `json:"partitions"`
}

// relayStatus asks the relay's process; an error while it is down.
func (s *site) relayStatus(ctx context.Context, w *world) (relayAnswer, error) {
	var all map[string]relayAnswer
	err := getJSON(ctx, "http://"+s.relayHTTP+"/v1/status", &all)
	return all["relay "+w.outbox()], err
}

// sinkStatuses asks the sinks' process.
func (s *site) sinkStatuses(ctx context.Context, w *world) ([]sinkStats, error) {
	var all map[string]sinkAnswer
	if err := getJSON(ctx, "http://"+s.sinksHTTP+"/v1/status", &all); err != nil {
		return nil, err
	}
	var out []sinkStats
	for _, role := range roles {
		a := all["sink "+w.sinkName(role)]
		one := sinkStats{role: role, ok: a.Problem == "" && len(a.Partitions) > 0, positions: map[string]int64{}}
		for _, p := range a.Partitions {
			one.positions[place(p.Topic, p.Partition)] = p.Position
			if !p.ValidThrough.IsZero() {
				one.age = max(one.age, time.Since(p.ValidThrough))
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// roles are the sinks of the demo, in the order in which they are shown.
var roles = []string{"warehouse", "search", "cache"}

// meter turns a growing count into a rate over the last seconds.
type meter struct {
	times  []time.Time
	counts []int64
}

const meterWindow = 2 * time.Second

func (m *meter) rate(n int64, now time.Time) float64 {
	m.times, m.counts = append(m.times, now), append(m.counts, n)
	for len(m.times) > 2 && now.Sub(m.times[1]) >= meterWindow {
		m.times, m.counts = m.times[1:], m.counts[1:]
	}
	d := now.Sub(m.times[0]).Seconds()
	if d <= 0 {
		return 0
	}
	return float64(n-m.counts[0]) / d
}
