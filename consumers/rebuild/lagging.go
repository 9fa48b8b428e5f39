package rebuild

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers"
)

// lagging tells by how much time a store is behind its topics: since when the first offset is there that it does not have.
type lagging struct {
	seen map[consumers.TopicPartition][]seenEnd
}

// seenEnd is where a partition ended at a moment.
type seenEnd struct {
	at  time.Time
	end int64
}

// maxSeen bounds the moments that are remembered of a partition: one a look.
const maxSeen = 600

func newLagging() *lagging { return &lagging{map[consumers.TopicPartition][]seenEnd{}} }

// look returns the lag in time and in events.
func (l *lagging) look(now time.Time, lags []consumers.Lag) (behind time.Duration, events int64) {
	for _, lag := range lags {
		seen := append(l.seen[lag.TopicPartition], seenEnd{now, lag.End})
		for len(seen) > 0 && (seen[0].end <= max(lag.Position, lag.Start) || len(seen) > maxSeen) {
			seen = seen[1:]
		}
		l.seen[lag.TopicPartition] = seen
		if len(seen) > 0 {
			behind = max(behind, now.Sub(seen[0].at))
		}
		events += lag.Lag
	}
	return behind, events
}

// rating is the rate of something that only grows.
type rating struct {
	times  []time.Time
	counts []int64
}

// ratedOver is over how many looks a rate is told.
const ratedOver = 10

// add returns events a second over the last looks.
func (r *rating) add(now time.Time, count int64) float64 {
	if n := len(r.counts); n > 0 && count < r.counts[n-1] {
		*r = rating{}
	}
	r.times, r.counts = append(r.times, now), append(r.counts, count)
	if len(r.times) > ratedOver {
		r.times, r.counts = r.times[1:], r.counts[1:]
	}
	last := len(r.times) - 1
	took := r.times[last].Sub(r.times[0]).Seconds()
	if took <= 0 {
		return 0
	}
	return float64(r.counts[last]-r.counts[0]) / took
}

// average is the rate of a whole build, without the stretches that do not count.
type average struct {
	at      time.Time // of the last look
	count   int64
	took    time.Duration
	applied int64
}

// add takes a look, and whether the stretch since the last one counts. It begins with the first event.
func (a *average) add(now time.Time, count int64, counts bool) {
	if counts && a.count > 0 && count >= a.count {
		a.took, a.applied = a.took+now.Sub(a.at), a.applied+count-a.count
	}
	a.at, a.count = now, count
}

// rate is events a second; 0 if none were seen.
func (a *average) rate() float64 {
	if a.took <= 0 {
		return 0
	}
	return float64(a.applied) / a.took.Seconds()
}

// lags compares a store's positions with the ends of its topics.
func lags(ctx context.Context, adm *kadm.Client, s Store, topics []string) ([]consumers.Lag, error) {
	at, err := s.Sink().Positions(ctx)
	if err != nil {
		return nil, err
	}
	return consumers.Lags(ctx, adm, at, topics...)
}
