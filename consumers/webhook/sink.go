package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/internal/call"
)

var (
	_ fold.Sink        = (*Sink)(nil)
	_ fold.EventReader = (*Sink)(nil)
)

// Positions keeps what the server at the other end does not keep for us; *position.Log is one.
type Positions interface {
	Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error)
	// Check returns the error of a Commit that would be refused, as far as is known without asking.
	Check(c fold.Commit) error
	Commit(ctx context.Context, c fold.Commit) error
	Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error)
	Close() error
}

// Config says where events are posted.
type Config struct {
	// Name is the sink's, for metrics. Default "webhook".
	Name string
	// URL is http:// or https://. Required. It is never in logs and errors but for its host.
	URL string
	// Secret signs, see ReadSecrets. Required.
	Secret string
	// Headers are sent with every request, such as Authorization.
	Headers map[string]string
	// TLS is for https; nil for the system's authorities. Certificates are verified.
	TLS *tls.Config
	// Concurrency is the most requests under way at a time, over all partitions of this process. Default 16.
	Concurrency int
	// Timeout bounds a request with its answer. Default 15 s.
	Timeout time.Duration
	// Skip, where set, is true for events that are not posted: those of types that the receiver does not want, or those of a rebuild.
	// It is asked once a pass and gives the same answer for the same event.
	Skip func(*consumers.Event) bool
	// Start says where a partition begins of which nothing was ever posted; nil or an offset of 0: with the first event that the topic has. What it says is kept before anything is
	// posted, so that a later start goes on from there.
	Start func(ctx context.Context, tp consumers.TopicPartition) (offset int64, err error)
	// Positions keeps positions. Required. Close closes it.
	Positions Positions
	// Registerer takes the metrics. Default: they are kept nowhere.
	Registerer prometheus.Registerer
}

// MaxConcurrency is the most that Config.Concurrency may be.
const MaxConcurrency = 1000

// CheckURL returns what is wrong with an address. No part of it is in the message.
func CheckURL(address string) error { return call.CheckURL(address) }

// CheckHeaders returns what is wrong with headers. Their values are not in the message.
func CheckHeaders(headers map[string]string) error { return call.CheckHeaders(headers) }

// Sink posts.
type Sink struct {
	cfg     Config
	client  *call.Client
	secrets [][]byte
	slots   chan struct{} // one for each request under way
	metrics *metrics

	mu       sync.Mutex // guards the following
	progress map[consumers.TopicPartition]*progress
}

// New makes a sink. It connects to nothing. An error names the field that is wrong.
func New(cfg Config) (*Sink, error) {
	if cfg.Name == "" {
		cfg.Name = "webhook"
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 16
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	switch {
	case cfg.Positions == nil:
		return nil, errors.New("webhook: Positions is missing")
	case cfg.Concurrency < 1 || cfg.Concurrency > MaxConcurrency:
		return nil, fmt.Errorf("webhook: Concurrency %d is outside 1..%d", cfg.Concurrency, MaxConcurrency)
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("webhook: Timeout is %s, below 0", cfg.Timeout)
	}
	secrets, err := ReadSecrets(cfg.Secret)
	if err != nil {
		return nil, fmt.Errorf("webhook: Secret: %w", err)
	}
	client, err := call.New(call.Config{URL: cfg.URL, Headers: cfg.Headers, TLS: cfg.TLS, Timeout: cfg.Timeout, Concurrency: cfg.Concurrency})
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	return &Sink{cfg: cfg, client: client, secrets: secrets, slots: make(chan struct{}, cfg.Concurrency), metrics: newMetrics(cfg.Registerer, cfg.Name),
		progress: map[consumers.TopicPartition]*progress{}}, nil
}

// ReadsEvents implements fold.EventReader: bodies are made of all fields.
func (s *Sink) ReadsEvents() bool { return true }

// Claim implements fold.Sink.
func (s *Sink) Claim(ctx context.Context, tp consumers.TopicPartition) (fold.Claim, error) {
	c, err := s.cfg.Positions.Claim(ctx, tp)
	if err == nil && c.Next < 0 && s.cfg.Start != nil {
		c.Next, err = s.begin(ctx, tp, c)
	}
	if err == nil {
		s.forget(tp)
	}
	return c, err
}

// begin keeps where a partition begins, and returns it. It is kept at once: asked again after a crash, Start might say another place, and what came between would never be posted.
func (s *Sink) begin(ctx context.Context, tp consumers.TopicPartition, c fold.Claim) (int64, error) {
	at, err := s.cfg.Start(ctx, tp)
	if err != nil {
		return c.Next, fmt.Errorf("find where %s/%d begins: %w", tp.Topic, tp.Partition, err)
	}
	if at <= 0 {
		return c.Next, nil
	}
	return at, s.cfg.Positions.Commit(ctx, fold.Commit{TopicPartition: tp, Epoch: c.Epoch, From: at, Next: at})
}

// Load implements fold.Sink: there are no states.
func (s *Sink) Load(context.Context, string, []string) (map[string]fold.Stored, error) {
	return nil, nil
}

// Commit implements fold.Sink: the events are posted, then the position moves. One that fails remembers what was done, for the next try with the
// same partition; when there will be none, the position moves as far as everything is done, so that the next owner repeats little.
func (s *Sink) Commit(ctx context.Context, c fold.Commit) error {
	if err := s.cfg.Positions.Check(c); err != nil {
		return err
	}
	p := s.of(c.TopicPartition)
	if len(c.Lifted) > 0 {
		p.askAnew(c.Events)
	}
	if err := s.deliver(ctx, c, p); err != nil {
		if ctx.Err() != nil || consumers.Classify(err) == consumers.Systemic {
			return errors.Join(err, s.keep(c, p))
		}
		return fold.NotStored(err)
	}
	if err := s.cfg.Positions.Commit(ctx, c); err != nil {
		return err
	}
	s.forget(c.TopicPartition)
	return nil
}

// keep moves the position to the first event that is not done.
func (s *Sink) keep(c fold.Commit, p *progress) error {
	part := c
	part.Quarantine = map[string]int64{}
	for _, ev := range c.Events {
		if _, done := p.done[ev.Offset]; !done {
			part.Next = min(part.Next, ev.Offset)
		}
	}
	if part.Next <= c.From || len(c.Lifted) > 0 {
		return nil
	}
	for key, offset := range c.Quarantine {
		if offset < part.Next {
			part.Quarantine[key] = offset
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepTimeout)
	defer cancel()
	return s.cfg.Positions.Commit(ctx, part)
}

// keepTimeout bounds what is done for the next owner.
const keepTimeout = 5 * time.Second

// Positions implements fold.Sink.
func (s *Sink) Positions(ctx context.Context) (map[consumers.TopicPartition]int64, error) {
	return s.cfg.Positions.Positions(ctx)
}

// Close implements fold.Sink.
func (s *Sink) Close() error {
	return errors.Join(s.client.Close(), s.cfg.Positions.Close())
}

func (s *Sink) of(tp consumers.TopicPartition) *progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.progress[tp]
	if p == nil {
		p = &progress{done: map[int64]struct{}{}, refused: map[int64]error{}}
		s.progress[tp] = p
	}
	return p
}

func (s *Sink) forget(tp consumers.TopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.progress, tp)
}
