package rebuild

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// view is what the topic says up to an offset.
type view struct {
	sink string
	// record is the newest; nil if there is none. It is never changed, but replaced.
	record *Record
	// broken is why what stands under the key record cannot be read, at an offset, where record is nil.
	broken error
	// open are the requests that are not answered, in the order in which they were put: maxOpen at most.
	open []*asked
	// answers are the last maxAnswers that were read, in the order of answered: whoever has asked waits for one of the next.
	answers  map[string]*Answer
	answered []string
	// left counts records that are none of ours.
	left int64
}

// asked is a request and when the broker took it, or its asker wrote it.
type asked struct {
	*Request
	offset int64
}

func newView(sink string) *view { return &view{sink: sink, answers: map[string]*Answer{}} }

// take takes a record of the topic in. What is none of ours is left out.
func (v *view) take(r *kgo.Record) error {
	if r.Attrs.IsControl() {
		return nil
	}
	err := v.read(r)
	if err != nil {
		v.left++
	}
	return err
}

func (v *view) read(r *kgo.Record) error {
	switch string(r.Key) {
	case recordKey:
		rec, err := readRecord(r.Value)
		if err != nil {
			// What cannot be read was not written by a sink, and changes nothing; where it stands alone, it may hide what was.
			if v.record == nil {
				v.broken = err
			}
			return err
		}
		v.record, v.broken = rec, nil
		return nil
	case progressKey:
		p, err := readProgress(r.Value)
		if err != nil {
			return err
		}
		v.progress(p)
		return nil
	}
	if r.Value == nil {
		return nil // an answer that was removed
	}
	q, a, err := readAsked(r.Value)
	switch {
	case err != nil:
		return err
	case q != nil:
		if len(v.open) >= maxOpen {
			return fmt.Errorf("%w: more than %d requests wait", errNotOurs, maxOpen)
		}
		if v.answers[q.ID] == nil && !slices.ContainsFunc(v.open, func(o *asked) bool { return o.ID == q.ID }) {
			v.open = append(v.open, &asked{q, r.Offset})
		}
	default:
		v.remember(a)
		v.open = slices.DeleteFunc(v.open, func(o *asked) bool { return o.ID == a.ID })
	}
	return nil
}

// remember keeps an answer in the place of the oldest one.
func (v *view) remember(a *Answer) {
	if v.answers[a.ID] == nil {
		v.answered = append(v.answered, a.ID)
	}
	v.answers[a.ID] = a
	if len(v.answered) > maxAnswers {
		delete(v.answers, v.answered[0])
		v.answered = v.answered[1:]
	}
}

// progress puts a newer progress into the record.
func (v *view) progress(p *progressed) {
	if v.record == nil || v.record.Rebuild == nil || v.record.Rebuild.ID != p.Rebuild || v.record.Rebuild.State != p.State {
		return
	}
	rec, b := *v.record, *v.record.Rebuild
	b.Progress = p.Progress
	rec.Rebuild = &b
	v.record = &rec
}

// current is the record; that of a sink which was never rebuilt if there is none.
func (v *view) current() Record {
	if v.record == nil {
		return Record{Sink: v.sink, Serving: 1, Newest: 1}
	}
	return *v.record
}
