package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// reachTimeout is how long a person who only looks waits for the first word of a broker; less than the ten seconds after which the client
// gives up a connection by itself and makes another.
const reachTimeout = 8 * time.Second

// errUnheard says that no broker has said anything at all.
var errUnheard = errors.New("no answer")

// reach returns nil when the first of the brokers has answered. A client on its own would go on trying for longer than anybody looks.
func (k Kafka) reach(ctx context.Context) error {
	opts, err := k.options()
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("make a Kafka client: %w", err)
	}
	defer client.Close()
	bounded, cancel := context.WithTimeout(ctx, reachTimeout)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	brokers := client.SeedBrokers()
	answers := make(chan error, len(brokers))
	for _, b := range brokers {
		asking.Go(func() {
			_, err := b.Request(bounded, kmsg.NewPtrApiVersionsRequest())
			answers <- err
		})
	}
	for range brokers {
		if err = <-answers; err == nil {
			return nil
		}
	}
	var late net.Error
	if ctx.Err() == nil && (bounded.Err() != nil || errors.As(err, &late) && late.Timeout()) { // a dial may end a moment before the context
		return fmt.Errorf("ask Kafka at %s: %w within %v", strings.Join(k.Brokers, ", "), errUnheard, reachTimeout)
	}
	return fmt.Errorf("ask Kafka at %s: %w", strings.Join(k.Brokers, ", "), err)
}

// awaited tells, while a person waits for longer than a moment, what has not answered yet.
type awaited struct {
	*steps
	mu   sync.Mutex // guards the following
	left []string
}

// await begins with Kafka alone, which all else is asked through.
func await(w io.Writer) *awaited {
	a := &awaited{steps: newSteps(w), left: []string{"Kafka"}}
	a.tell()
	return a
}

// forThese are asked from now on.
func (a *awaited) forThese(names ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = append(a.left, names...)
	a.tell()
}

// came says that one has answered.
func (a *awaited) came(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = slices.DeleteFunc(a.left, func(other string) bool { return other == name })
	a.tell()
}

func (a *awaited) tell() {
	text := ""
	if len(a.left) > 0 {
		text = "waiting for " + strings.Join(a.left, ", ")
	}
	a.at(text, 0, 0)
}
