package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
)

// The scripts of a batch are sent one behind the other, and their answers are read afterwards: the server is at work on the first while the others are on their
// way. Each leaves its name for the next one to find, so that nothing is done behind a script that was refused or has failed.

// maxSent is how many scripts are sent before their answers are read.
const maxSent = 32

// call is what a script gets.
type call struct {
	keys []string
	args []any
}

// calls are those that bring parts in. If moves is set, the last one moves the position.
func (s *Sink) calls(c fold.Commit, parts []*part, moves bool) []call {
	s.mu.Lock()
	owner := s.owners[c.TopicPartition]
	s.mu.Unlock()
	replace := ""
	if c.Replace {
		replace, moves = "replace", false // the position stays
	}
	heads, name, before := append(s.partitionKeys(c.TopicPartition), s.names.Serving()), rand.Text(), ""
	calls := make([]call, len(parts))
	for i, p := range parts {
		next, leaves := "", ""
		switch last := i == len(parts)-1; {
		case !last:
			leaves = name + strconv.Itoa(i)
		case moves:
			next = strconv.FormatInt(c.Next, 10)
		}
		fixed := []any{c.Epoch, owner, c.From, next, len(p.states), len(p.marks) / 2, len(p.floors), s.pointer(), replace, before, leaves}
		calls[i] = call{slices.Concat(heads, p.states, p.floors, p.cached), slices.Concat(fixed, p.contents, p.marks, p.least)}
		before = leaves
	}
	return calls
}

// send has the server carry calls out, and returns the first error. A server that does not know the script, for it was started anew, is given it.
func (s *Sink) send(ctx context.Context, c fold.Commit, calls []call) error {
	done, err := s.pipeline(ctx, c, calls)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		if err = commitScript.Load(ctx, s.rdb).Err(); err == nil {
			_, err = s.pipeline(ctx, c, calls[done:])
		}
	}
	return classify(err)
}

// pipeline returns how many calls were carried out before the first that was not.
func (s *Sink) pipeline(ctx context.Context, c fold.Commit, calls []call) (done int, err error) {
	pipe := s.rdb.Pipeline()
	replies := make([]*redis.Cmd, len(calls))
	for i, call := range calls {
		replies[i] = commitScript.EvalSha(ctx, pipe, call.keys, call.args...)
	}
	_, _ = pipe.Exec(ctx) // each reply has its own error
	for i, reply := range replies {
		if err := s.verdict(reply, c); err != nil {
			return i, err
		}
	}
	return len(calls), nil
}

// verdict reads what a script has answered.
func (s *Sink) verdict(reply *redis.Cmd, c fold.Commit) error {
	got, err := reply.StringSlice()
	if err != nil {
		return err
	}
	if len(got) != 2 {
		return errReply
	}
	if got[0] == "OK" {
		s.sawPointer(got[1])
		return nil
	}
	s.mu.Lock()
	owner := s.owners[c.TopicPartition]
	s.mu.Unlock()
	return refusal(got[0], got[1], c, owner != "")
}

// refusal says what the script's verdict means.
func refusal(verdict, stored string, c fold.Commit, claimed bool) error {
	switch verdict {
	case "FENCED":
		return fmt.Errorf("epoch %d, stored %s: %w", c.Epoch, stored, consumers.ErrFenced)
	case "POSITION":
		return fmt.Errorf("stored position is %s: %w", stored, consumers.ErrPosition)
	case "GONE":
		if claimed {
			return fmt.Errorf("redis has lost what we claimed: %w", consumers.ErrPosition) // claim anew, start anew
		}
		return fmt.Errorf("nobody has claimed it: %w", consumers.ErrFenced)
	case "BEFORE":
		return errBefore
	}
	return errReply
}
