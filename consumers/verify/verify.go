package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/schemas"
)

// Config says which sink is verified, and against what.
type Config struct {
	// Sink is its name: dead letters are found by it. Required.
	Sink string
	// Store is the sink. Required; it must be a fold.Snapshotter.
	Store fold.Sink
	// Projections are the declarations by which Store was built.
	Projections []fold.Projection
	// NoEvents is set of a sink that could keep events and is configured not to.
	NoEvents bool
	// Kafka are the options that reach the brokers. Registry and Catalogue decode.
	Kafka     []kgo.Opt
	Registry  consumers.Registry
	Catalogue *schemas.Catalogue
}

// Options say what is compared, and how. The zero value compares everything.
type Options struct {
	// Entities are those to compare. Default: all. Events of a sink that keeps them are compared when it is empty.
	Entities []string `json:"entities,omitempty"`
	// Sample compares one key in so many, chosen by a hash; 0 and 1 compare all. Turn says which of them: another number, other keys.
	Sample uint64 `json:"sample,omitempty"`
	Turn   uint64 `json:"turn,omitempty"`
	// Examples is the most differences that are shown of an entity. Default 20.
	Examples int `json:"examples,omitempty"`
	// Patience is how long keys that move on while they are read are followed. Default 30 s.
	Patience time.Duration `json:"patience,omitempty"`
	// Progress, if set, is told now and then how far it is.
	Progress func(Progress) `json:"-"`
}

// Progress is how far a run is.
type Progress struct {
	// Phase says what is read: "order in the sink", "shop.orders/3".
	Phase string `json:"phase"`
	// Done and Total count offsets of the topics.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// States is how many states of the sink were read.
	States int64 `json:"states"`
}

// Result is what a run has shown.
type Result struct {
	Sink string    `json:"sink"`
	At   time.Time `json:"at"`
	// Cut are the positions at which sink and topics were compared.
	Cut []compare.Cut `json:"cut"`
	// Sample is 1 if every key was compared, n if one in n was.
	Sample uint64 `json:"sample"`
	// Entities are the results: Old is the sink, New what the topic says.
	Entities map[string]*compare.Compared `json:"entities"`
	// Bronze are the events that are kept, against the topics; nil where none are.
	Bronze []Bronze `json:"bronze,omitempty"`
	// Events counts those that were read of the topics. Waiting are keys that wait behind a dead letter, Dropped those of which events were given up.
	Events  int64 `json:"events"`
	Waiting int64 `json:"waiting_keys"`
	Dropped int64 `json:"keys_with_settled_letters"`
	// Notes say what could not be compared, or was compared in another way, and why.
	Notes []string `json:"notes,omitempty"`
	// Differences counts all.
	Differences int64         `json:"differences"`
	Took        time.Duration `json:"took"`
}

// ErrCannot says that a sink holds nothing that could be compared: it keeps neither states nor events, as a webhook.
var ErrCannot = errors.New("the sink holds nothing to compare")

// Run compares a sink with its topics. An error says that it could not be done, never that there are differences.
func Run(ctx context.Context, cfg Config, opts Options) (*Result, error) {
	r, err := newRun(cfg, opts)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.run(ctx); err != nil {
		return nil, fmt.Errorf("verify sink %s: %w", cfg.Sink, err)
	}
	return r.out, nil
}

// run is one run.
type run struct {
	cfg   Config
	opts  Options
	began time.Time
	out   *Result
	cl    *kgo.Client // asks; records are read with clients of their own
	adm   *kadm.Client
	dec   *consumers.Decoder

	snap     fold.Snapshot
	at       map[consumers.TopicPartition]int64 // the cut
	starts   map[consumers.TopicPartition]int64 // where the log begins
	kept     map[consumers.TopicPartition]fold.Kept
	letters  *letters
	counts   map[string]int32           // partitions of the topics
	left     []consumers.TopicPartition // not compared
	progress Progress
	told     time.Time
}

func newRun(cfg Config, opts Options) (*run, error) {
	if _, ok := cfg.Store.(fold.Snapshotter); !ok {
		return nil, fmt.Errorf("verify sink %s: %w", cfg.Sink, ErrCannot)
	}
	for _, e := range opts.Entities {
		if !slices.ContainsFunc(cfg.Projections, func(p fold.Projection) bool { return p.Entity() == e }) {
			return nil, fmt.Errorf("verify sink %s: %w %q", cfg.Sink, ErrNoEntity, e)
		}
	}
	opts.Sample = max(opts.Sample, 1)
	opts.Examples = cmp.Or(opts.Examples, 20)
	opts.Patience = cmp.Or(opts.Patience, 30*time.Second)
	r := &run{cfg: cfg, opts: opts, began: time.Now()}
	r.out = &Result{Sink: cfg.Sink, At: r.began.UTC(), Sample: opts.Sample, Entities: map[string]*compare.Compared{}}
	var err error
	if r.dec, err = consumers.NewDecoder(consumers.DecoderConfig{Registry: cfg.Registry, Catalogue: cfg.Catalogue, Reads: r.reads}); err != nil {
		return nil, err
	}
	if r.cl, err = kgo.NewClient(cfg.Kafka...); err != nil {
		return nil, err
	}
	r.adm = kadm.NewClient(r.cl)
	return r, nil
}

// ErrNoEntity says that a sink does not keep an entity.
var ErrNoEntity = errors.New("the sink keeps no entity")

func (r *run) close() {
	if r.snap != nil {
		_ = r.snap.Close()
	}
	r.cl.Close()
}

// wanted says whether an entity is compared.
func (r *run) wanted(entity string) bool {
	return len(r.opts.Entities) == 0 || slices.Contains(r.opts.Entities, entity)
}

// comparesEvents says whether the sink's events are compared.
func (r *run) comparesEvents() bool {
	_, keeps := r.cfg.Store.(fold.EventKeeper)
	return keeps && !r.cfg.NoEvents && len(r.opts.Entities) == 0
}

// reads is consumers.FieldReader's.
func (r *run) reads(eventType string) (names []string, all bool) {
	for _, p := range r.cfg.Projections {
		f, tells := p.(consumers.FieldReader)
		if !tells {
			return nil, true
		}
		more, all := f.Reads(eventType)
		if all {
			return nil, true
		}
		names = append(names, more...)
	}
	return names, false
}

// sampled says whether a key is looked at.
func (r *run) sampled(key string) bool { return Sampled(key, r.opts.Sample, r.opts.Turn) }

// Sampled says whether a key is among the one in n that a turn looks at.
func Sampled(key string, n, turn uint64) bool {
	if n <= 1 {
		return true
	}
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return (h^h>>32)%n == turn%n
}

func (r *run) run(ctx context.Context) (err error) {
	if r.snap, err = r.cfg.Store.(fold.Snapshotter).Snapshot(ctx); err != nil {
		return err
	}
	r.at = maps.Clone(r.snap.Positions())
	r.out.Cut = compare.CutOf(r.at)
	if k, ok := r.cfg.Store.(fold.EventKeeper); ok {
		if r.kept, err = k.Kept(ctx); err != nil {
			return err
		}
	}
	// Letters are written before the position moves: those of the cut are there.
	if r.letters, err = readLetters(ctx, r.cfg, r.at); err != nil {
		return err
	}
	r.out.Waiting, r.out.Dropped = r.letters.count()
	if err := r.extent(ctx); err != nil {
		return err
	}
	for _, topic := range r.topics() {
		if err := r.topic(ctx, topic); err != nil {
			return err
		}
	}
	for _, e := range r.out.Entities {
		r.out.Differences += e.Different
	}
	for _, b := range r.out.Bronze {
		r.out.Differences += b.differences()
	}
	r.out.Took = time.Since(r.began)
	return nil
}

// topics are those that the sink follows and has applied something of.
func (r *run) topics() []string {
	var all []string
	for tp := range r.at {
		all = append(all, tp.Topic)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// extent finds where the logs begin, and counts what there is to read.
func (r *run) extent(ctx context.Context) error {
	r.starts, r.counts = map[consumers.TopicPartition]int64{}, map[string]int32{}
	starts, err := r.adm.ListStartOffsets(ctx, r.topics()...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("ask where the topics begin: %w", err)
	}
	starts.Each(func(o kadm.ListedOffset) { r.counts[o.Topic] = max(r.counts[o.Topic], o.Partition+1) })
	for tp, at := range r.at {
		o, ok := starts.Lookup(tp.Topic, tp.Partition)
		if !ok {
			return fmt.Errorf("%s has no partition %d, of which the sink has applied %d offsets", tp.Topic, tp.Partition, at)
		}
		r.starts[tp] = o.Offset
		r.progress.Total += max(0, at-o.Offset)
	}
	return nil
}

// tellEvery is how often Progress is told.
const tellEvery = 250 * time.Millisecond

func (r *run) tell(phase string) {
	r.progress.Phase = phase
	if r.opts.Progress != nil && time.Since(r.told) >= tellEvery {
		r.told = time.Now()
		r.opts.Progress(r.progress)
	}
}

func (r *run) note(format string, args ...any) {
	r.out.Notes = append(r.out.Notes, fmt.Sprintf(format, args...))
}
