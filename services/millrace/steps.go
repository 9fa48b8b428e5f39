package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// steps tells on w, every two seconds, what a command is doing; what is over sooner needs no telling.
type steps struct {
	w    io.Writer
	done chan struct{}
	over sync.WaitGroup
	once sync.Once

	mu    sync.Mutex // guards the following
	text  string
	quiet bool
}

// stepsEvery is how often it tells.
const stepsEvery = 2 * time.Second

func newSteps(w io.Writer) *steps {
	p := &steps{w: w, done: make(chan struct{})}
	p.over.Go(func() {
		tick := time.NewTicker(stepsEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				p.print()
			}
		}
	})
	return p
}

func (p *steps) print() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != "" && !p.quiet {
		fmt.Fprintln(p.w, p.text)
	}
}

// at says what is being done, and how much of it is. total is 0 if that is not known.
func (p *steps) at(step string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.quiet = step, false
	if total > 0 {
		p.text += ": " + number(done) + " of " + number(total)
	}
}

// pause is for a question; the next step ends it.
func (p *steps) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
}

func (p *steps) stop() {
	p.once.Do(func() { close(p.done) })
	p.over.Wait()
}
