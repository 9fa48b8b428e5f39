package opensearch

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// verdicts are what became of the documents of a bulk request. The request itself succeeds whatever becomes of them.
type verdicts struct {
	again    []bool   // by item: the cluster had no room for it
	refused  []string // by item: why it is not indexed; nil if none is
	outdone  []bool   // by item: what is stored has this version or a later one; nil if none is
	busy     int
	lastBusy error
}

// outcome is one item of the answer, under the name of what was done.
type outcome map[string]struct {
	Status int   `json:"status"`
	Error  cause `json:"error"`
}

// readVerdicts reads the answer to a bulk request of n items. An error concerns the whole request.
func readVerdicts(raw []byte, n int) (*verdicts, error) {
	if allWritten(raw, n) {
		return &verdicts{}, nil
	}
	var answer struct {
		Items []outcome `json:"items"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("%w: %v", errAnswer, err)
	}
	if len(answer.Items) != n {
		return nil, fmt.Errorf("%w: %d outcomes for %d documents", errAnswer, len(answer.Items), n)
	}
	v := &verdicts{}
	for i, o := range answer.Items {
		if len(o) != 1 {
			return nil, fmt.Errorf("%w: %d outcomes of one document", errAnswer, len(o))
		}
		for _, one := range o {
			err := &statusError{status: one.Status, kind: clean(one.Error.Type), reason: clean(one.Error.Reason)}
			if err := v.add(i, n, err); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// add takes the outcome of item i. Promise 4: a conflict of versions is success, for the document has this version or a later one; overrule sees whether that is
// the version of an event.
func (v *verdicts) add(i, n int, e *statusError) error {
	switch {
	case e.status >= 200 && e.status <= 299:
		return nil
	case e.status == http.StatusConflict && e.kind == kindConflict:
		if v.outdone == nil {
			v.outdone = make([]bool, n)
		}
		v.outdone[i] = true
		return nil
	case busy(e):
		if v.again == nil {
			v.again = make([]bool, n)
		}
		v.again[i], v.lastBusy = true, e
		v.busy++
		return nil
	case (e.status == http.StatusBadRequest || e.status == http.StatusRequestEntityTooLarge) && !gone(e.kind, e.reason):
		if v.refused == nil {
			v.refused = make([]string, n)
		}
		v.refused[i] = e.Error()
		return nil
	}
	return e // credentials, an index that is gone or closed, a broken shard: it concerns all of them
}

// left returns the items that are still to be written: those that there was no room for, and bare those that the server does not
// index.
//
// Promise 7: a document that cannot be indexed does not stop the stream, and it is not dropped: its state is stored, and the log and
// the document say why no search by its columns finds it.
func (b *bulk) left(v *verdicts) ([]item, error) {
	var left, refused []item
	for i, it := range b.items {
		switch {
		case v.again != nil && v.again[i]:
			left = append(left, it)
		case v.outdone != nil && v.outdone[i]:
			b.outdone = append(b.outdone, it)
		case v.refused == nil || v.refused[i] == "":
		case it.why != "":
			return nil, systemicf("%s %q is refused even without its columns: %s: %w", b.layout.Name, it.change.Key, v.refused[i], ErrDeclaration)
		default:
			it.why = v.refused[i]
			refused = append(refused, it)
		}
	}
	if len(b.items) >= refusedFrom && float64(len(refused)) > refusedShare*float64(len(b.items)) {
		return nil, systemicf("%d of %d documents of %s are refused, the first: %s: %w", len(refused), len(b.items), b.layout.Name, refused[0].why, ErrDeclaration)
	}
	b.tell(refused)
	b.sink.metrics.repeats.Add(float64(v.busy))
	for i, it := range b.items {
		if it.why == "" && (v.again == nil || !v.again[i]) && (v.refused == nil || v.refused[i] == "") {
			b.sink.metrics.written.Inc()
		}
	}
	return append(left, refused...), nil
}

// What an answer consists of in which every document was written: this, and digits.
const (
	answerHead = `{"items":[`
	itemHead   = `{"index":{"status":20`
	itemTail   = `}}`
	answerTail = `]}`
)

// allWritten recognises the answer of nearly every request without taking it apart. Anything else is read the long way.
func allWritten(raw []byte, n int) bool {
	size := len(itemHead) + 1 + len(itemTail)
	if len(raw) != len(answerHead)+len(answerTail)+n*size+max(n-1, 0) || string(raw[:len(answerHead)]) != answerHead || string(raw[len(raw)-len(answerTail):]) != answerTail {
		return false
	}
	rest := raw[len(answerHead):]
	for i := range n {
		if i > 0 {
			if rest[0] != ',' {
				return false
			}
			rest = rest[1:]
		}
		if string(rest[:len(itemHead)]) != itemHead || rest[len(itemHead)] < '0' || rest[len(itemHead)] > '9' || string(rest[len(itemHead)+1:size]) != itemTail {
			return false
		}
		rest = rest[size:]
	}
	return true
}
