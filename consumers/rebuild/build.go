package rebuild

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/consumers"
)

// near is by how many offsets the new generation may be behind the one that serves for both to be compared: the comparison waits for it to come up exactly.
const near = 2000

// build lets the new generation grow, and looks how far it is.
func (j *Job) build(ctx context.Context) error {
	w, err := j.ensure(ctx, j.rec.Rebuild.New)
	if err != nil {
		return err
	}
	behind, end, err := j.progress(ctx, w)
	if err != nil {
		return err
	}
	switch b := j.rec.Rebuild; {
	case b.Paused || w.head != nil:
		return nil
	case b.State == Building && end < max(b.Progress.Total/20, near):
		return j.move(ctx, func(rec *Record, b *Rebuild) {
			b.State, b.Reason = CatchingUp, ""
			rec.Generations[b.New].Rate = cmp.Or(j.whole.rate(), b.Progress.Rate)
		})
	case b.State == CatchingUp && behind <= near:
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.State, b.Reason = Verifying, "" })
	case b.Reason != "": // what was in the way is over
		return j.move(ctx, func(_ *Record, b *Rebuild) { b.Reason = "" })
	}
	return nil
}

// progress looks how far the new generation is, holds it back where it must be, and tells. behind is by how much it is behind the one that serves, and end behind the log.
func (j *Job) progress(ctx context.Context, w *work) (behind, end int64, err error) {
	mine, err := lags(ctx, j.adm, w.store, j.cfg.Topics) // before the other's: it can only have grown since
	if err != nil {
		return 0, 0, err
	}
	now := time.Now()
	var theirs []consumers.Lag
	if err := j.serving(ctx, func(s Store) (err error) {
		if len(j.rec.Rebuild.Recreated) > 0 {
			return nil // it stands still
		}
		theirs, err = lags(ctx, j.adm, s, j.cfg.Topics)
		return err
	}); err != nil {
		return 0, 0, err
	}
	b := *j.rec.Rebuild
	late, events := j.lag.look(now, theirs)
	at := map[consumers.TopicPartition]int64{}
	p := Progress{Lag: events, At: now.UTC(), Phase: "log"}
	for _, l := range mine {
		begins := max(l.Start, w.feed.since[l.TopicPartition])
		if l.Position >= 0 && l.Position < l.Start || w.head != nil {
			begins = 0 // what the log does not have is fed from what is kept
		}
		at[l.TopicPartition] = max(l.Position, begins)
		p.Total += max(l.End-begins, 0)
		p.Events += at[l.TopicPartition] - begins
		end += max(l.End-at[l.TopicPartition], 0)
	}
	for _, l := range theirs {
		behind += max(max(l.Position, l.Start)-at[l.TopicPartition], 0)
	}
	p.Rate = j.rate.add(now, p.Events)
	j.whole.add(now, p.Events, b.State == Building && j.held == "")
	if p.Rate > 0 {
		p.Remaining = time.Duration(float64(end) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	if w.head != nil {
		p.Phase = FromBronze
	}
	j.held = b.reason(late)
	w.feed.pace.set(b.Options.Rate, j.held)
	p.Throttled = w.feed.pace.throttled()
	if j.heed.set(j.held); j.task != nil && !j.cutting.Load() {
		p.Throttled = j.heed.why()
	}
	return behind, end, j.tell(ctx, p)
}

// reason is why the build is to wait; "" if it is not. Half of the bound is where it begins to: the lag is that of the last look, and the batches in hand go on.
func (b *Rebuild) reason(late time.Duration) string {
	switch most := b.Options.WithDefaults().MaxLag; {
	case b.Paused:
		return "paused"
	case late > most/2:
		return fmt.Sprintf("the live sink lags by %v, and is to stay within %v", late.Round(100*time.Millisecond), most)
	}
	return ""
}

// tell writes the progress, about once a second.
func (j *Job) tell(ctx context.Context, p Progress) error {
	b := *j.rec.Rebuild
	b.Progress = p
	j.rec.Rebuild = &b
	if time.Since(j.told) < time.Second {
		return nil
	}
	j.told = time.Now()
	return j.term.tell(ctx, &b)
}
