package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ElectionGroup is the group whose owner of the topic's only partition leads, and TransactionalID that under which the leader writes.
func ElectionGroup(sink string) string { return "millrace." + sink + ".generations" }

// TransactionalID is the id under which the leader of a sink writes: taking it shuts a former leader out.
func TransactionalID(sink string) string { return "millrace." + sink + ".generations" }

// How soon the group notices that a leader is gone, and how long what a leader left open may stay so.
const (
	electionSession    = 6 * time.Second
	electionHeartbeat  = 2 * time.Second
	electionRebalance  = 10 * time.Second
	transactionTimeout = 10 * time.Second
)

// ErrDeposed says that another process leads by now: nothing was written.
var ErrDeposed = errors.New("another process leads the sink's generations")

// errUnsure says that a write has failed, or that this process cannot tell what stands on the topic since: the record at hand may be old, and what is written on
// top of it would undo what was written. The term ends; the next one begins by reading the topic.
var errUnsure = errors.New("it is not known what stands on the topic")

// Campaign stands for leader until ctx ends. lead is called whenever this process leads, with a context that ends when it does not any more; the topic must be there. What lead returns early, it is
// called for again after a pause as long as this process leads.
func (l *Log) Campaign(ctx context.Context, lead func(context.Context, *Term) error) error {
	var mu sync.Mutex
	var end func() // of the term; nil without one
	stop := func(context.Context, *kgo.Client, map[string][]int32) {
		mu.Lock()
		defer mu.Unlock()
		if end != nil {
			end()
			end = nil
		}
	}
	start := func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
		mu.Lock()
		defer mu.Unlock()
		if slices.Contains(given[Topic(l.cfg.Sink)], 0) && end == nil {
			end = l.reign(ctx, lead)
		}
	}
	cl, err := kgo.NewClient(append(slices.Clone(l.cfg.Kafka),
		kgo.ConsumerGroup(ElectionGroup(l.cfg.Sink)), kgo.ConsumeTopics(Topic(l.cfg.Sink)), kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(electionSession), kgo.HeartbeatInterval(electionHeartbeat), kgo.RebalanceTimeout(electionRebalance),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.MetadataMinAge(metadataMinAge),
		kgo.OnPartitionsAssigned(start), kgo.OnPartitionsRevoked(stop), kgo.OnPartitionsLost(stop))...)
	if err != nil {
		return fmt.Errorf("stand for leader of %s: %w", l.cfg.Sink, err)
	}
	cl.PauseFetchTopics(Topic(l.cfg.Sink)) // the group is what is wanted of it
	for told := ""; ctx.Err() == nil; wait(ctx, lookAgain) {
		if err := cl.PollFetches(ctx).Err(); err != nil && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			l.log.Warn("this process cannot stand for leader of the sink's rebuilds; it tries again", "group", ElectionGroup(l.cfg.Sink), "err", err)
		}
	}
	stop(ctx, nil, nil)
	cl.CloseAllowingRebalance()
	return nil
}

// reign leads until the function that it returns is called, which waits for it.
func (l *Log) reign(ctx context.Context, lead func(context.Context, *Term) error) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := retryMin; ctx.Err() == nil; pause = min(2*pause, retryMax) {
			if err := l.rule(ctx, lead); err != nil && ctx.Err() == nil {
				l.log.Warn("leading the sink's generations is begun anew", "err", err)
			}
			wait(ctx, pause)
		}
	}()
	return func() { cancel(); <-done }
}

// rule is one term.
func (l *Log) rule(ctx context.Context, lead func(context.Context, *Term) error) error {
	t, err := l.newTerm(ctx)
	if err != nil {
		return err
	}
	defer t.cl.Close()
	// What a former leader has written is read before anything is decided: nothing of it can come later, for its id is taken.
	if _, err := l.Sync(ctx); err != nil {
		return err
	}
	l.setTerm(t)
	defer l.setTerm(nil)
	l.log.Debug("this process leads the sink's generations")
	return lead(ctx, t)
}

func (l *Log) setTerm(t *Term) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term = t
	l.tellLocked()
}

// Term is the time in which a process leads. It belongs to one goroutine.
type Term struct {
	log *Log
	cl  *kgo.Client
	// plain says that the broker has no transactions, or refuses them to this user: then nothing keeps a former leader from writing but the group.
	plain bool
}

// newTerm takes the transactional id.
func (l *Log) newTerm(ctx context.Context) (*Term, error) {
	opts := append(slices.Clone(l.cfg.Kafka), writing()...)
	cl, err := kgo.NewClient(append(opts, kgo.TransactionalID(TransactionalID(l.cfg.Sink)), kgo.TransactionTimeout(transactionTimeout))...)
	if err != nil {
		return nil, err
	}
	taking, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	// Promise 4: from here on a former leader, however long it was frozen, writes nothing more.
	_, _, err = cl.ProducerID(taking)
	if err == nil {
		return &Term{log: l, cl: cl}, nil
	}
	cl.Close()
	if !withoutTransactions(err) {
		return nil, fmt.Errorf("take transactional id %s: %w", TransactionalID(l.cfg.Sink), err)
	}
	l.log.Warn("the generations of the sink are written without transactions", "transactional_id", TransactionalID(l.cfg.Sink), "err", err)
	if cl, err = kgo.NewClient(opts...); err != nil {
		return nil, err
	}
	return &Term{log: l, cl: cl, plain: true}, nil
}

// withoutTransactions says whether the broker has none, or not for this user. One whose coordinator is away for now has them: a former leader could write again when
// it is back, and nothing would have shut it out.
func withoutTransactions(err error) bool {
	return errors.Is(err, kerr.UnsupportedVersion) || errors.Is(err, kerr.TransactionalIDAuthorizationFailed)
}

// Record is the record as this process has read it.
func (t *Term) Record() (Record, error) { return t.log.Record() }

// Write writes a record and answers in one step, and returns when this process has read it back. ErrDeposed says that it was not written.
func (t *Term) Write(ctx context.Context, rec *Record, answers ...Answer) error {
	var out []*kgo.Record
	if rec != nil {
		rec.Sink, rec.At, rec.Process = t.log.cfg.Sink, time.Now().UTC(), t.log.cfg.Process
		if rec.Rebuild != nil {
			rec.Rebuild.Reason = cut(rec.Rebuild.Reason, maxReason)
		}
		value, err := fitting(rec)
		if err != nil {
			return err
		}
		out = append(out, t.record(recordKey, value))
	}
	for _, a := range answers {
		a.At, a.Reason = time.Now().UTC(), cut(a.Reason, maxReason)
		value, err := json.Marshal(a)
		if err != nil {
			return err
		}
		out = append(out, t.record(a.ID, value))
	}
	return t.put(ctx, out)
}

// fitting encodes a record. One that is too large goes without its comparison.
func fitting(rec *Record) ([]byte, error) {
	value, err := json.Marshal(rec)
	if err != nil || len(value) <= maxRecord {
		return value, err
	}
	small := *rec
	for _, b := range []**Rebuild{&small.Rebuild, &small.Last} {
		if *b != nil {
			without := **b
			without.Comparison = nil
			*b = &without
		}
	}
	if value, err = json.Marshal(small); err == nil && len(value) > maxRecord {
		err = fmt.Errorf("the record of generations has %d bytes, more than %d: the declarations are too large", len(value), maxRecord)
	}
	return value, err
}

// tell writes how far a rebuild is.
func (t *Term) tell(ctx context.Context, b *Rebuild) error {
	value, err := json.Marshal(progressed{Rebuild: b.ID, State: b.State, Progress: b.Progress})
	if err != nil {
		return err
	}
	return t.put(ctx, []*kgo.Record{t.record(progressKey, value)})
}

func (t *Term) record(key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: Topic(t.log.cfg.Sink), Key: []byte(key), Value: value}
}

// put writes records, all or none.
func (t *Term) put(ctx context.Context, out []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := t.produce(ctx, out)
	switch {
	case deposed(err):
		return fmt.Errorf("write to %s: %w: %w", Topic(t.log.cfg.Sink), ErrDeposed, err)
	case err == nil:
		_, err = t.log.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w: %w", Topic(t.log.cfg.Sink), errUnsure, err)
	}
	return nil
}

func (t *Term) produce(ctx context.Context, out []*kgo.Record) error {
	if t.plain {
		return t.cl.ProduceSync(ctx, out...).FirstErr()
	}
	if err := t.cl.BeginTransaction(); err != nil {
		return err
	}
	if err := t.cl.ProduceSync(ctx, out...).FirstErr(); err != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		return errors.Join(err, t.cl.EndTransaction(ending, kgo.TryAbort))
	}
	return t.cl.EndTransaction(ctx, kgo.TryCommit)
}

func deposed(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.InvalidTxnState)
}
