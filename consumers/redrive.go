package consumers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// redrive carries out requests for different keys of one partition.
//
// The dead-letter topic is read twice: first for the offsets of the events that are pending, then for the events. So it does not
// matter in which order letters were written, nor how often, and what is held is one batch and eight bytes an event. A letter is
// pending if its offset is at or above the key's mark and below the position: exactly those events of the key were put aside
// and not applied.
type redrive struct {
	l     *lane
	proc  Redriver
	tasks map[string]*task
	idle  []*Answer        // of requests without anything to do
	next  int64            // the lane's position
	ends  map[int32]int64  // of the dead-letter topic, by its partitions
	leafs map[string]int32 // partition of the dead-letter topic, by key
	told  time.Time

	batch   Redrive
	dropped map[string]int64 // with the batch, by key
	bytes   int
}

// task is one request at work.
type task struct {
	q      *Request
	mark   int64
	index  []int64 // offsets of the pending events, in order
	done   int     // of index: applied, dropped or in the batch
	early  map[int64]Letter
	stuck  bool
	answer Answer
}

// maxEarly bounds the letters of a key that wait for one that was written behind them, in bytes.
const maxEarly = 64 << 20

// impossible is why a request cannot be carried out, and nothing is wrong with the sink.
type impossible struct{ err error }

func (e *impossible) Error() string { return e.err.Error() }
func (e *impossible) Unwrap() error { return e.err }

func cannot(err error) error { return AsSystemic(&impossible{err}) }

// newRedrive sorts out what there is to do. before is the attempt that came before, or nil.
func newRedrive(l *lane, requests []*Request, before *redrive) *redrive {
	next := l.position()
	r := &redrive{l: l, proc: l.c.proc.(Redriver), tasks: map[string]*task{}, next: next, ends: map[int32]int64{}, leafs: map[string]int32{}, told: time.Now()}
	r.clear()
	for _, q := range requests {
		first, marked := r.proc.Quarantined(l.tp, q.Key)
		switch {
		case q.From >= next:
			// Its batch is not in the sink yet: the letter was written first. The lane looks again after the batch.
		case q.Key == "" && q.Drop == DropNothing:
			r.idle = append(r.idle, q.refuse("an event without a usable key belongs to no entity: it cannot be applied, only discarded"))
		case q.Key == "":
			a := q.answer(Done)
			a.Dropped = 1
			r.idle = append(r.idle, a)
		case !marked && before.settled(q.Key) != nil:
			r.idle = append(r.idle, before.settled(q.Key))
		case !marked:
			a := q.answer(Nothing)
			a.Below, a.Detail = next, "the key is not quarantined"
			r.idle = append(r.idle, a)
		default:
			r.tasks[q.Key] = before.task(q, first)
		}
	}
	return r
}

// task begins a task, with what was applied before.
func (r *redrive) task(q *Request, mark int64) *task {
	t := &task{q: q, mark: mark, early: map[int64]Letter{}, answer: *q.answer(Done)}
	if r != nil && r.tasks[q.Key] != nil {
		t.answer.Applied, t.answer.Dropped = r.tasks[q.Key].answer.Applied, r.tasks[q.Key].answer.Dropped
	}
	return t
}

// settled is the answer for a key that the attempt was done with before something else failed; nil if it was not.
func (r *redrive) settled(key string) *Answer {
	if r == nil || r.tasks[key] == nil {
		return nil
	}
	a := r.tasks[key].answer
	a.Below = r.next
	return &a
}

func (q *Request) refuse(why string) *Answer {
	a := q.answer(Failed)
	a.Detail = why
	return a
}

// run applies what is to be applied. An error leaves everything as it is for another try; what was committed before it is settled.
func (r *redrive) run(ctx context.Context) error {
	if err := r.scan(ctx, r.note); err != nil {
		return err
	}
	for key, t := range r.tasks {
		slices.Sort(t.index)
		t.index = slices.Compact(t.index)
		if why := t.incomplete(); why != "" {
			r.idle = append(r.idle, t.q.refuse(why))
			delete(r.tasks, key)
		} else if len(t.index) == 0 {
			r.batch.Rest[key] = -1
		}
	}
	if err := r.scan(ctx, func(l Letter) error { return r.apply(ctx, l) }); err != nil {
		return err
	}
	return r.flush(ctx)
}

// scan gives the letters of the tasks to f.
func (r *redrive) scan(ctx context.Context, f func(Letter) error) error {
	if len(r.tasks) == 0 && len(r.idle) == 0 {
		return nil
	}
	var failed error
	err := ScanLetters(ctx, r.l.c.cfg.Kafka, r.l.c.cfg.Name, func(l Letter) error {
		failed = f(l)
		return failed
	})
	if failed == nil && Classify(err) == Systemic {
		return cannot(err) // no right to read, for example: the sink does without
	}
	return err
}

// pending returns the task that a letter belongs to; nil if it belongs to none, or is settled.
func (r *redrive) pending(l *Letter) *task {
	t := r.tasks[l.Key]
	if t == nil || l.TopicPartition != r.l.tp || l.Offset < t.mark || l.Offset >= r.next {
		return nil
	}
	return t
}

// name is the key under which requests speak of an event.
func (r *redrive) name(key string) string {
	if ev := (Event{Key: key}); !ev.HasKey() {
		return ""
	}
	return key
}

// note remembers which events are pending.
func (r *redrive) note(l Letter) error {
	r.ends[l.Leaf] = l.Place + 1
	if l.TopicPartition == r.l.tp {
		r.leafs[r.name(l.Key)] = l.Leaf
	}
	if t := r.pending(&l); t != nil {
		t.index = append(t.index, l.Offset)
	}
	return nil
}

// incomplete says why letters must be missing. The event that the mark stands at was acknowledged before the mark was made, and the
// key's others come after it.
func (t *task) incomplete() string {
	if t.q.drops(t.mark) || len(t.index) > 0 && t.index[0] == t.mark {
		return ""
	}
	return fmt.Sprintf("the dead-letter topic does not hold the event at offset %d any more, nor can it be known what else is missing; "+
		"discard everything that was put aside of the key, or rebuild the sink", t.mark)
}

// apply takes a letter if it is the next of its key, and those that waited for it.
func (r *redrive) apply(ctx context.Context, l Letter) error {
	t := r.pending(&l)
	if t == nil || t.stuck || t.done == len(t.index) || l.Offset < t.index[t.done] {
		return nil
	}
	if l.Offset > t.index[t.done] {
		return t.keep(l)
	}
	for {
		if err := r.admit(ctx, t, l); err != nil {
			return err
		}
		if t.stuck || t.done == len(t.index) {
			return nil
		}
		waiting, ok := t.early[t.index[t.done]]
		if !ok {
			return nil
		}
		delete(t.early, waiting.Offset)
		l = waiting
	}
}

func (t *task) keep(l Letter) error {
	t.early[l.Offset] = l
	held := 0
	for _, e := range t.early {
		held += recordBytes(e.Record)
	}
	if held > maxEarly {
		return cannot(fmt.Errorf("the dead letters of key %q are too far out of order: they wait for offset %d", t.q.Key, t.index[t.done]))
	}
	return nil
}

// admit puts the next event of a key into the batch, or drops it.
func (r *redrive) admit(ctx context.Context, t *task, l Letter) error {
	if t.q.drops(l.Offset) {
		r.dropped[t.q.Key]++
	} else {
		ev, err := r.event(ctx, l)
		if err != nil {
			return err
		}
		r.batch.Events = append(r.batch.Events, ev)
		r.bytes += recordBytes(l.Record)
	}
	t.done++
	r.batch.Rest[t.q.Key] = -1
	if t.done < len(t.index) {
		r.batch.Rest[t.q.Key] = t.index[t.done]
	}
	if t.q.Drop == DropPoison {
		r.batch.DropPoison[t.q.Key] = t.q.To
	}
	if len(r.batch.Events) < r.l.c.cfg.BatchEvents && r.bytes < r.l.c.cfg.BatchBytes {
		return nil
	}
	return r.flush(ctx)
}

// event decodes a letter with the schemas of today.
func (r *redrive) event(ctx context.Context, l Letter) (Event, error) {
	rec := l.Record
	if l.Omitted > 0 {
		var err error
		if rec, err = recordAt(ctx, r.l.c.cfg.Kafka, l.TopicPartition, l.Offset); err != nil {
			return Event{}, err
		}
	}
	ev, err := r.l.c.dec.Decode(ctx, rec)
	if err != nil {
		return Event{}, fmt.Errorf("decode the dead letter of offset %d: %w", l.Offset, err)
	}
	return ev, nil
}

// flush brings the batch into the sink.
func (r *redrive) flush(ctx context.Context) error {
	if len(r.batch.Rest) == 0 {
		return nil
	}
	if err := r.l.over(); err != nil {
		return err
	}
	done, err := r.proc.Redrive(r.l.ctx, r.batch) // what has begun is finished while the lane is drained
	if err != nil {
		return err
	}
	for key, t := range r.tasks {
		t.answer.Applied += done.Applied[key]
		t.answer.Dropped += done.Dropped[key] + r.dropped[key]
		if at, ok := done.Stuck[key]; ok {
			t.stuck = true
			t.answer.Outcome, t.answer.Below = Stuck, at.Offset
			t.answer.Detail = fmt.Sprintf("offset %d: %s", at.Offset, at.Reason)
		}
	}
	r.clear()
	r.l.redrove()
	r.tell(ctx)
	return nil
}

func (r *redrive) clear() {
	r.batch = Redrive{TopicPartition: r.l.tp, Rest: map[string]int64{}, DropPoison: map[string]int64{}}
	r.dropped, r.bytes = map[string]int64{}, 0
}

// answers are those to all requests that are settled or stuck.
func (r *redrive) answers() []*Answer {
	all := r.idle
	for _, t := range r.tasks {
		if t.answer.Outcome == Done {
			t.answer.Below = r.next
		}
		all = append(all, &t.answer)
	}
	for _, a := range all {
		a.Place = r.ends[r.leafs[a.Key]]
	}
	return all
}

// failed are the answers after an error that no retry mends.
func (r *redrive) failed(err error) []*Answer {
	all := r.idle
	for _, t := range r.tasks {
		t.answer.Outcome, t.answer.Detail = Failed, err.Error()
		all = append(all, &t.answer)
	}
	return all
}

// recordAt reads one record of a topic: the value of a letter that was too large to repeat.
func recordAt(ctx context.Context, kafka []kgo.Opt, tp TopicPartition, offset int64) (*kgo.Record, error) {
	cl, err := kgo.NewClient(append(slices.Clone(kafka), kgo.MaxDecompressBatchBytes(maxBatchBytes),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{tp.Topic: {tp.Partition: kgo.NoResetOffset().At(offset)}}))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	for {
		fetches := cl.PollRecords(ctx, 1)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := firstError(fetches); err != nil {
			return nil, fmt.Errorf("read %s/%d offset %d again, whose value was too large for a dead letter: %w", tp.Topic, tp.Partition, offset, err)
		}
		for _, r := range fetches.Records() {
			if r.Offset == offset {
				return r, nil
			}
			return nil, cannot(fmt.Errorf("%s/%d does not hold offset %d any more, whose value was too large for a dead letter", tp.Topic, tp.Partition, offset))
		}
	}
}
