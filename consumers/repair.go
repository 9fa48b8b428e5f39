package consumers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Repairer is a Processor that can fold keys anew from their first events and put what they make in the place of what it stores. fold.Fold is one. The call
// comes from the lane of the partition, between two batches, with the partition claimed.
type Repairer interface {
	Processor
	// Repair replaces the states of keys, all of them or none, and leaves the position where it is. Done again it changes nothing. Errors are as those of
	// Redriver.Redrive.
	Repair(ctx context.Context, r Repair) (map[string]Repaired, error)
}

// Repair is about keys of one partition.
type Repair struct {
	TopicPartition
	// Keys are those to fold anew. Of each, the events at the offsets in Skip were given up; Remove takes away a state for which there is no event.
	Keys map[string]RepairKey
	// Kafka reaches the log; it begins at Start.
	Kafka []kgo.Opt
	Start int64
	// Decode decodes a record.
	Decode func(context.Context, *kgo.Record) (Event, error)
	// Progress is told now and then how many records were read.
	Progress func(ctx context.Context, records int64)
}

// RepairKey says how a key is folded anew.
type RepairKey struct {
	Skip   map[int64]bool
	Remove bool
}

// Repaired is what became of a key.
type Repaired struct {
	// Events were applied.
	Events int64
	// Trouble says for a person why the key was left as it is; empty if it was not.
	Trouble string
	// Absent says that the partition has no event of the key, and nothing was done.
	Absent bool
}

// repair carries out the requests to fold keys anew, with one reading of the partition, and answers them.
func (l *lane) repair(requests []*Request) error {
	if len(requests) == 0 {
		return nil
	}
	p, ok := l.c.proc.(Repairer)
	if !ok {
		return l.answer(refuseAll(requests, "this sink keeps no states: there is nothing to repair"))
	}
	var done map[string]Repaired
	err := l.retry(outageRedrive, func(context.Context) (err error) {
		var start int64
		if start, err = startOffset(l.calm, l.c.adm, l.tp); err != nil {
			return err
		}
		told := time.Now()
		r := Repair{TopicPartition: l.tp, Keys: map[string]RepairKey{}, Kafka: l.c.cfg.Kafka, Start: start, Decode: l.c.dec.Decode}
		r.Progress = func(ctx context.Context, records int64) {
			if time.Since(told) >= tellEvery {
				told = time.Now()
				l.tellRepair(ctx, requests, records)
			}
		}
		for _, q := range requests {
			r.Keys[q.Key] = q.repairKey()
		}
		done, err = p.Repair(l.calm, r)
		return err
	})
	var impossible *impossible
	switch {
	case err == nil:
		l.redrove()
		return l.answer(repairedAll(requests, done))
	case errors.As(err, &impossible):
		return l.answer(refuseAll(requests, err.Error()))
	case Classify(err) == Systemic && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrPosition):
		// Answered first, for a request that stops this process would stop the next one, too.
		return errors.Join(err, l.answer(refuseAll(requests, err.Error())))
	}
	return err
}

// Impossible marks an error of a Repairer that no retry mends, and that is no fault of the sink.
func Impossible(err error) error { return cannot(err) }

func (q *Request) repairKey() RepairKey {
	k := RepairKey{Skip: map[int64]bool{}, Remove: q.Remove}
	for _, offset := range q.Skip {
		k.Skip[offset] = true
	}
	return k
}

func refuseAll(requests []*Request, why string) []*Answer {
	answers := make([]*Answer, len(requests))
	for i, q := range requests {
		answers[i] = q.refuse(why)
	}
	return answers
}

func repairedAll(requests []*Request, done map[string]Repaired) []*Answer {
	answers := make([]*Answer, len(requests))
	for i, q := range requests {
		switch r := done[q.Key]; {
		case r.Trouble != "":
			answers[i] = q.refuse(r.Trouble)
		case r.Absent:
			answers[i] = q.answer(Nothing)
			answers[i].Detail = "the partition has no event of the key"
		default:
			answers[i] = q.answer(Done)
			answers[i].Applied = r.Events
		}
	}
	return answers
}

// tellRepair writes how far a long reading is. It does not matter if that fails.
func (l *lane) tellRepair(ctx context.Context, requests []*Request, records int64) {
	var so []*Answer
	for _, q := range requests {
		a := q.answer(Underway)
		a.Detail = fmt.Sprintf("%d records read", records)
		so = append(so, a)
	}
	if err := l.c.control.answer(ctx, so...); err != nil {
		l.c.log.Debug("progress not told", "err", err)
	}
}

// repairs parts the requests to fold keys anew from those about dead letters.
func repairs(requests []*Request) (repair, others []*Request) {
	for _, q := range requests {
		if q.Repair {
			repair = append(repair, q)
		} else {
			others = append(others, q)
		}
	}
	return repair, others
}
