// Package replay copies a range of a topic into another one: for a consumer that missed some, or to look at what was published.
//
// What holds:
//
//  1. Exactly the committed records of the range are copied, each once: a copy and the note of how far it has come are one Kafka
//     transaction, and whoever goes on takes the same transactional id first, which ends what a killed run left open.
//  2. Records of one key stay in order: each partition of the source is copied from front to back, and a key goes where the
//     relay would put it.
//  3. Nothing is written to a topic of an outbox, nor to an internal one.
//
// Files, in the order in which a record passes them:
//
//	replay.go     Run: a stretch of a partition, a transaction, the next one
//	bounds.go     where each partition begins and ends
//	source.go     reading, through changes of leaders and losses to retention
//	selection.go  which records are meant
//	target.go     the topic that is written to, and what copies look like
//	journal.go    the note of how far a run has come, on a topic of its own, and going on from it
package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/internal/pace"
)

// Registry resolves schema ids; *registry.Client is one.
type Registry interface {
	Schema(ctx context.Context, id int) (text string, err error)
}

// Config says what is copied, and where to.
type Config struct {
	// Kafka are the options that reach the brokers.
	Kafka []kgo.Opt
	// Registry tells the types of records without a header ce_type; asked only where Type is set.
	Registry Registry
	// Outboxes are the outboxes by name, each with the topics that its configuration names: nothing is written to those, nor to
	// what an outbox has published to.
	Outboxes map[string][]string

	// Topic is copied Into another one, which is made if it does not exist. Both are required.
	Topic, Into string
	// Since and Until bound the range.
	Since, Until Bound
	// Key and Type select; empty for all.
	Key, Type string
	// Rate bounds the records a second; 0 for no bound.
	Rate int
	// DryRun counts, and writes nothing.
	DryRun bool
	// Restart forgets an unfinished run into the topic instead of going on with it: what it copied is copied again.
	Restart bool
	// Progress is told after each stretch; nil for nobody.
	Progress func(done, of int64)
}

// Result is what a run did.
type Result struct {
	Topic  string `json:"topic"`
	Into   string `json:"into"`
	DryRun bool   `json:"dry_run,omitempty"`
	// At is the value of the header millrace-replayed: when the run began, the first one if it went on with another.
	At time.Time `json:"at"`
	// Resumed says that it went on with an unfinished run, which had copied Before records.
	Resumed bool  `json:"resumed,omitempty"`
	Before  int64 `json:"before,omitempty"`
	// Looked records were looked at, Sent of them copied (with DryRun: would be), all of them committed.
	Looked int64 `json:"looked"`
	Sent   int64 `json:"sent"`
	// Done says that the end was reached. If not, the same command goes on.
	Done       bool        `json:"done"`
	Partitions []Partition `json:"partitions"`
	// Gone are records that are not in the log any more: retention took them, before or meanwhile.
	Gone    []Gone  `json:"gone,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Partition is a partition of the source: the range From (inclusive) to End (exclusive), and the offset Next that it has come to.
type Partition struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	End       int64 `json:"end"`
	Next      int64 `json:"next"`
	Sent      int64 `json:"sent"`
}

// Gone is a range of offsets, both inclusive.
type Gone struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
}

// Run copies. After an error, or when ctx has ended, the result says how far it came; running it again goes on from there.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(int64, int64) {}
	}
	r := &run{cfg: cfg, began: time.Now(), selection: newSelection(cfg)}
	r.out = Result{Topic: cfg.Topic, Into: cfg.Into, DryRun: cfg.DryRun, At: r.began.UTC().Truncate(time.Second), Partitions: []Partition{}}
	err := r.open(ctx)
	defer r.close()
	if err == nil {
		err = r.copy(ctx)
	}
	r.out.Seconds = time.Since(r.began).Seconds()
	return r.out, err
}

type run struct {
	cfg       Config
	began     time.Time
	out       Result
	selection *selection

	client  *kgo.Client
	admin   *kadm.Client
	source  *source
	target  *target  // nil in a dry run
	journal *journal // nil in a dry run
	of      int64    // offsets to look at
	done    int64
}

func (r *run) close() {
	if r.journal != nil {
		r.journal.close()
	}
	if r.client != nil {
		r.client.Close()
	}
}

// open finds out what is to be copied before anything is written.
func (r *run) open(ctx context.Context) error {
	var err error
	if r.client, err = newClient(r.cfg.Kafka); err != nil {
		return err
	}
	r.admin = kadm.NewClient(r.client)
	if err := allowed(ctx, r.client, r.cfg); err != nil {
		return err
	}
	if r.source, err = openSource(ctx, r.client, r.cfg.Topic); err != nil {
		return err
	}
	if r.out.Partitions, r.out.Gone, err = r.source.bounds(ctx, r.admin, r.cfg); err != nil {
		return err
	}
	if r.cfg.DryRun {
		r.count()
		return nil
	}
	if r.journal, err = openJournal(ctx, r.admin, r.cfg, r.source.id()); err != nil {
		return err
	}
	if err := r.resume(ctx); err != nil {
		return err
	}
	r.count()
	r.target, err = openTarget(ctx, r.client, r.admin, r.cfg, r.source.partitions())
	return err
}

func (r *run) count() {
	for _, p := range r.out.Partitions {
		r.of += p.End - p.Next
	}
}

// resume goes on with an unfinished run, or notes that this one begins.
func (r *run) resume(ctx context.Context) error {
	n, err := r.journal.read(ctx, r.client)
	if err != nil {
		return err
	}
	if n == nil || r.cfg.Restart {
		return r.journal.begin(ctx, r.note())
	}
	if n.Range != r.journal.digest {
		return fmt.Errorf("%w: %s of %s, begun at %s, has %d records in %s: give the same flags to go on with it, or --restart to forget it",
			ErrUnfinished, n.Said, n.Topic, n.At.Format(time.RFC3339), n.Sent, r.cfg.Into)
	}
	r.out.Resumed, r.out.Before, r.out.At, r.out.Partitions = true, n.Sent, n.At, n.Partitions
	return nil
}

func (r *run) note() note {
	return note{Topic: r.cfg.Topic, Range: r.journal.digest, Said: r.selection.said, At: r.out.At, Sent: r.out.Before + r.out.Sent, Partitions: r.out.Partitions}
}

// copy takes the partitions in turn, a stretch each, until all are at their ends.
func (r *run) copy(ctx context.Context) error {
	for left := true; left; {
		left = false
		for i := range r.out.Partitions {
			p := &r.out.Partitions[i]
			if p.Next >= p.End {
				continue
			}
			left = true
			if err := r.stretch(ctx, p); err != nil {
				return err
			}
		}
	}
	if r.journal != nil {
		if err := r.journal.finish(ctx, r.admin); err != nil {
			return err
		}
	}
	r.out.Done = true
	return nil
}

// stretch copies what one answer of the broker holds.
func (r *run) stretch(ctx context.Context, p *Partition) error {
	records, next, gone, err := r.source.read(ctx, p.Partition, p.Next, p.End)
	if err != nil {
		return err
	}
	if gone != nil {
		r.out.Gone = append(r.out.Gone, *gone)
	}
	r.done += max(0, next-p.Next)
	from := p.Next
	var chosen []*kgo.Record
	for _, rec := range records {
		if rec.Offset < from || rec.Offset >= p.End {
			continue
		}
		r.out.Looked++
		yes, err := r.selection.wants(ctx, rec)
		if err != nil {
			return err
		}
		if yes {
			chosen = append(chosen, rec)
		}
	}
	for len(chosen) > 0 {
		n := min(len(chosen), r.page())
		until := next
		if n < len(chosen) {
			until = chosen[n].Offset
		}
		if err := r.send(ctx, p, chosen[:n], until); err != nil {
			return err
		}
		chosen = chosen[n:]
		r.cfg.Progress(r.done, r.of)
		if err := r.pace(ctx); err != nil {
			return err
		}
	}
	p.Next = next
	r.cfg.Progress(r.done, r.of)
	return ctx.Err()
}

// maxPage is how many records a transaction holds at most.
const maxPage = 10_000

// page is how many records a transaction holds; with a rate, what is due in a quarter of a second.
func (r *run) page() int {
	if r.cfg.Rate > 0 {
		return min(maxPage, max(1, r.cfg.Rate/4))
	}
	return maxPage
}

// send copies records in one transaction, with the note that the partition has come to an offset.
func (r *run) send(ctx context.Context, p *Partition, records []*kgo.Record, next int64) error {
	before := *p
	sent := r.out.Sent
	p.Next, p.Sent, r.out.Sent = next, p.Sent+int64(len(records)), sent+int64(len(records))
	if r.cfg.DryRun {
		return nil
	}
	copies := make([]*kgo.Record, len(records))
	for i, rec := range records {
		copies[i] = r.target.copy(rec, r.out.At)
	}
	if err := r.journal.commit(ctx, copies, r.note()); err != nil {
		*p, r.out.Sent = before, sent
		return err
	}
	return nil
}

// pace waits until what was sent is due.
func (r *run) pace(ctx context.Context) error {
	if r.cfg.DryRun {
		return ctx.Err()
	}
	return pace.Keep(ctx, r.began, r.out.Sent, r.cfg.Rate)
}

func newClient(kafka []kgo.Opt, more ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(append([]kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond)}, kafka...), more...)...)
	if err != nil {
		return nil, fmt.Errorf("make a Kafka client: %w", err)
	}
	return client, nil
}

// Errors of Run.
var (
	// ErrNoTopic says that the source does not exist.
	ErrNoTopic = errors.New("no such topic")
	// ErrForbidden says that nothing may be copied into this topic, or from it.
	ErrForbidden = errors.New("this topic cannot be replayed into")
	// ErrUnfinished says that an earlier run into the topic, of another range, has not come to its end.
	ErrUnfinished = errors.New("an unfinished replay is there")
)
