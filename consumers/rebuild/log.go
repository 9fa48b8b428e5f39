package rebuild

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// LogConfig says whose generations are followed.
type LogConfig struct {
	// Sink is its name, and Kafka says how Kafka is reached. Both are required.
	Sink  string
	Kafka []kgo.Opt
	// Lost is asked where the topic holds no record: which generation the store itself says to serve, and 0 or 1 for a sink that was never rebuilt. Somebody may have deleted the topic. nil: it is
	// generation 1.
	Lost func(ctx context.Context) (int, error)
	// Process names this process in what it writes, for people.
	Process string
	// Logger gets a line for each change of state. Default: nothing is logged.
	Logger *slog.Logger
}

// Log is what a process of a sink knows of its generations: it follows the topic of generations, and stands for leader.
type Log struct {
	cfg LogConfig
	log *slog.Logger

	mu      sync.Mutex // guards the following
	view    *view      // nil before the topic was read to its end
	next    int64      // read so far
	exists  bool
	made    bool    // the topic is there, whatever a broker says that has not heard of it
	trouble error   // why it is not read
	term    *Term   // nil while another process leads
	reading *reader // whose client can be asked; nil while there is none
	changed chan struct{}
}

// NewLog returns a Log. It does nothing before Run.
func NewLog(cfg LogConfig) *Log {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Log{cfg: cfg, log: cfg.Logger, changed: make(chan struct{})}
}

// Run follows the topic until ctx ends, waiting for Kafka as long as it must.
func (l *Log) Run(ctx context.Context) {
	pause, told := retryMin, false
	for ctx.Err() == nil {
		err := l.follow(ctx, func() { pause = retryMin })
		if ctx.Err() != nil {
			return
		}
		l.failed(err)
		if !told {
			l.log.Warn("the generations of the sink cannot be read; it is tried again", "topic", Topic(l.cfg.Sink), "err", err)
			told = true
		}
		wait(ctx, pause)
		pause = min(2*pause, retryMax)
	}
}

// Pauses between attempts to reach Kafka.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// wait waits, and returns false if ctx ends before that.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Log) follow(ctx context.Context, reached func()) error {
	r, err := newReader(l.cfg.Sink, l.cfg.Kafka)
	if err != nil {
		return err
	}
	l.ask(r)
	defer func() { l.ask(nil); r.close() }()
	odd := func(rec *kgo.Record, err error) {
		l.log.Warn("a record of the topic of generations is left out", "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset, "err", err)
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout) // a broker that is away is no reason to be silent
	_, _, err = r.begin(asking)
	cancel()
	if err == nil {
		err = r.read(ctx, odd)
	}
	if err == nil {
		err = l.lost(ctx, r)
	}
	for ; err == nil; err = r.step(ctx, odd) {
		reached()
		l.publish(r)
	}
	return err
}

// spareNumbers are left out behind a record that is lost: it may have given them to generations of which something is left.
const spareNumbers = 100

// lost makes a record where there is none, and the store says that another generation than the first serves: readers must not be led back to what nobody has fed since.
func (l *Log) lost(ctx context.Context, r *reader) error {
	if r.view.record != nil || r.view.broken != nil || l.cfg.Lost == nil {
		return nil
	}
	l.mu.Lock()
	known := l.view != nil && l.view.record != nil
	if known {
		r.view.record = l.view.record // it was deleted under this process, which knows it
	}
	l.mu.Unlock()
	if known {
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	n, err := l.cfg.Lost(asking)
	if err != nil || n <= 1 {
		return err
	}
	r.view.record = Adopted(l.cfg.Sink, n)
	l.log.Warn("the record of the sink's generations is gone, and the store says which one serves: it goes on with that, and the record is written anew. What a rebuild left behind that was "+
		"under way is for you to remove", "topic", Topic(l.cfg.Sink), "generation", n)
	return nil
}

// Adopted is the record of a sink whose own is lost.
func Adopted(sink string, serving int) *Record {
	return &Record{Sink: sink, Serving: serving, Newest: serving + spareNumbers, Generations: map[int]*Generation{}}
}

// ask names the reader whose client can be asked.
func (l *Log) ask(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = r
	l.tellLocked()
}

// askTimeout bounds a question to Kafka.
const askTimeout = 5 * time.Second

// publish shows what was read.
func (l *Log) publish(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := *r.view
	v.open = slices.Clone(v.open)
	l.view, l.next, l.exists, l.trouble = &v, r.next, r.exists, nil
	l.tellLocked()
}

func (l *Log) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = err
	l.tellLocked()
}

func (l *Log) tellLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Changed is closed when something may have changed since the call: the record, the leader, or what is in the way.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// ErrUnknown says that the topic was not read yet.
var ErrUnknown = errors.New("the record of generations is not read yet")

// Record is the newest record that this process has read.
func (l *Log) Record() (Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.view == nil && l.trouble != nil:
		return Record{}, fmt.Errorf("%w: %w", ErrUnknown, l.trouble)
	case l.view == nil:
		return Record{}, ErrUnknown
	}
	return l.view.known()
}

// Sync returns the record that is the newest when it is called, or a newer one.
func (l *Log) Sync(ctx context.Context) (Record, error) {
	end, exists, err := l.end(ctx)
	if err != nil {
		return Record{}, err
	}
	for {
		l.mu.Lock()
		enough := l.view != nil && (!exists || l.exists && l.next >= end)
		changed := l.changed
		l.mu.Unlock()
		if enough {
			return l.Record()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Record{}, fmt.Errorf("read %s to its end: %w", Topic(l.cfg.Sink), ctx.Err())
		}
	}
}

// end is where the topic ends now; false if there is none.
func (l *Log) end(ctx context.Context) (int64, bool, error) {
	for {
		l.mu.Lock()
		reading, changed, made := l.reading, l.changed, l.made
		l.mu.Unlock()
		if reading != nil {
			end, exists, err := reading.end(ctx)
			if err != nil || exists || !made {
				return end, exists, err
			}
			wait(ctx, metadataMinAge)
			if ctx.Err() == nil {
				continue
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, false, fmt.Errorf("read %s: %w", Topic(l.cfg.Sink), ctx.Err())
		}
	}
}

// Leading returns the term in which this process leads; nil if it does not.
func (l *Log) Leading() *Term {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term
}

// open are the requests that nobody has answered.
func (l *Log) open() []*asked {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view == nil {
		return nil
	}
	return l.view.open
}

// Ensure makes the topic if there is none.
func (l *Log) Ensure(ctx context.Context) error {
	cl, err := kgo.NewClient(slices.Clone(l.cfg.Kafka)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := ensure(ctx, kadm.NewClient(cl), Topic(l.cfg.Sink)); err != nil {
		return consumers.ClassifyKafka(err)
	}
	l.mu.Lock()
	l.made = true
	l.mu.Unlock()
	return nil
}
