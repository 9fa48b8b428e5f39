package rebuild

import (
	"context"
	"fmt"
	"time"

	"github.com/millrace/millrace/consumers/fold"
)

// maxAge is how old a request may be that is carried out: nobody waits for it any more.
const maxAge = time.Hour

// answer carries a request out, or says why not.
func (j *Job) answer(ctx context.Context, q *asked) error {
	a := Answer{ID: q.ID}
	change, why := j.consider(ctx, q.Request)
	if why != "" {
		a.Reason = why
		j.log.Info("a request is not carried out", "action", q.Action, "request", q.ID, "err", why)
		return j.term.Write(ctx, nil, a)
	}
	a.OK = true
	j.log.Info("a request is carried out", "action", q.Action, "request", q.ID, "by", q.By)
	return j.move(ctx, change, a)
}

// consider returns what a request changes, or why it changes nothing.
func (j *Job) consider(ctx context.Context, q *Request) (change func(*Record, *Rebuild), why string) {
	b := j.rec.Rebuild
	if !q.At.IsZero() && time.Since(q.At) > maxAge {
		return nil, "it has waited for more than an hour: ask again"
	}
	if q.Action == Start {
		return j.considerStart(ctx, q)
	}
	if b == nil {
		return nil, "no rebuild is under way"
	}
	switch q.Action {
	case Pause, Resume:
		if b.State != Building && b.State != CatchingUp && b.State != Verifying {
			return nil, fmt.Sprintf("the rebuild is %s, which cannot be paused", b.State)
		}
		return func(_ *Record, b *Rebuild) { b.Paused = q.Action == Pause }, ""
	case Abort:
		return considerAbort(b)
	case Accept:
		switch {
		case b.State != Refused:
			return nil, fmt.Sprintf("the rebuild is %s: there is nothing to accept", b.State)
		case b.Comparison == nil || !b.Comparison.Acceptable:
			return nil, "the generations differ in what no declaration has changed: that is not for acceptance"
		}
		return func(_ *Record, b *Rebuild) {
			b.Options.AcceptChanges = b.Options.AcceptChanges || !b.Comparison.Equal // of equals only the swap is tried again
			b.State, b.Reason = Verifying, ""
		}, ""
	case Rollback:
		return j.considerRollback(ctx, b)
	case Finish:
		if b.State != Soaking {
			return nil, fmt.Sprintf("the rebuild is %s: there is nothing to retire", b.State)
		}
		return func(_ *Record, b *Rebuild) { b.State, b.KeepUntil, b.RollingBack = Retiring, time.Now().UTC(), false }, ""
	}
	return nil, fmt.Sprintf("%q is not known", q.Action)
}

func (j *Job) considerStart(ctx context.Context, q *Request) (change func(*Record, *Rebuild), why string) {
	if b := j.rec.Rebuild; b != nil {
		return nil, underWay(b)
	}
	if j.rec.Generations[j.rec.Serving] == nil {
		return nil, "the sink has not opened its store yet: try again in a moment"
	}
	var o Options
	if q.Options != nil {
		o = *q.Options
	}
	o = o.WithDefaults()
	declared := j.cfg.Host.Declared()
	for entity, digest := range o.Digests {
		if declared.Digests[entity] != digest {
			return nil, fmt.Sprintf("the sink's process has another declaration of entity %q than whoever asks: restart it with the new configuration first", entity)
		}
	}
	former, err := j.recreated(ctx)
	if err == nil {
		err = j.feasible(ctx, o)
	}
	if err != nil {
		return nil, err.Error()
	}
	return func(rec *Record, _ *Rebuild) {
		rec.Newest++
		declared.MadeAt = time.Now().UTC()
		rec.Generations[rec.Newest] = &declared
		rec.Rebuild = &Rebuild{ID: q.ID, State: Planned, Old: rec.Serving, New: rec.Newest, Options: o, Recreated: former, Began: time.Now().UTC()}
	}, ""
}

// underWay says that there is a rebuild already, and what is to be done about it.
func underWay(b *Rebuild) string {
	text := fmt.Sprintf("a rebuild is under way already: it is %s", b.State)
	switch b.State {
	case Failed:
		return text + ", and has to be aborted first"
	case Refused:
		return text + ", and has to be accepted or aborted first"
	case Soaking:
		return text + ": finish it first, which ends the time for a rollback, or roll it back"
	}
	return text
}

func considerAbort(b *Rebuild) (change func(*Record, *Rebuild), why string) {
	switch b.State {
	case CuttingOver:
		return nil, "the new generation is taking over: roll back when it serves"
	case Soaking:
		return nil, "the new generation serves: roll back, or finish"
	case Retiring:
		return nil, "the rebuild is ending already"
	}
	return func(_ *Record, b *Rebuild) { b.State, b.Outcome, b.Paused, b.Reason = Retiring, "aborted", false, "" }, ""
}

func (j *Job) considerRollback(ctx context.Context, b *Rebuild) (change func(*Record, *Rebuild), why string) {
	switch {
	case b.State != Soaking && b.SwappedAt.IsZero():
		return nil, fmt.Sprintf("the rebuild is %s, and the former generation serves still: abort it", b.State)
	case b.State != Soaking:
		return nil, fmt.Sprintf("the rebuild is %s: it cannot be rolled back", b.State)
	case b.RollingBack:
		return nil, "it is being rolled back already: " + b.Reason
	case b.Reason != "":
		return nil, "the former generation does not follow: " + b.Reason
	}
	keys, err := j.redriven(ctx)
	switch {
	case err != nil:
		return nil, err.Error()
	case len(keys) > 0:
		return nil, fmt.Sprintf("dead letters of %d keys were redriven or discarded since the swap, and the former generation does not have that: %q", len(keys), keys[0])
	}
	if _, waits := j.work.store.Sink().(fold.Awaiter); waits {
		return func(_ *Record, b *Rebuild) { b.RollingBack = true }, ""
	}
	return func(_ *Record, b *Rebuild) { b.State, b.RolledBack = CuttingOver, true }, ""
}
