package rebuild

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func sound() *Record {
	return &Record{
		Sink: "warehouse", Serving: 1, Newest: 2, At: time.Unix(1, 0).UTC(),
		Generations: map[int]*Generation{1: {Projections: map[string]string{"order.yaml": "entity: order"}, Digests: map[string]string{"order": "ab"}}, 2: {}},
		Rebuild:     &Rebuild{ID: "r1", State: Building, Old: 1, New: 2, Options: Options{From: FromBeginning}, Progress: Progress{Events: 5, Total: 9}},
	}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func at(key string, value []byte) *kgo.Record { return &kgo.Record{Key: []byte(key), Value: value} }

// What contradicts itself is no record, whoever wrote it.
func TestARecordThatContradictsItselfIsNone(t *testing.T) {
	if _, err := readRecord(encoded(t, sound())); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Record){
		"nobody serves":           func(r *Record) { r.Serving = 0 },
		"serves and is not there": func(r *Record) { delete(r.Generations, 1) },
		"newer than the newest":   func(r *Record) { r.Newest = 1 },
		"a generation without":    func(r *Record) { r.Generations[2] = nil },
		"a state of no kind":      func(r *Record) { r.Rebuild.State = "dancing" },
		"backwards":               func(r *Record) { r.Rebuild.New, r.Rebuild.Old = 1, 2 },
		"without an id":           func(r *Record) { r.Rebuild.ID = "" },
		"of others":               func(r *Record) { r.Rebuild.Old, r.Rebuild.New, r.Newest = 3, 4, 4 },
		"from nowhere":            func(r *Record) { r.Rebuild.Options.From = "yesterday" },
		"a rate below 0":          func(r *Record) { r.Rebuild.Options.Rate = -1 },
		"too many generations": func(r *Record) {
			for r.Newest = 1; r.Newest <= maxGenerations+1; r.Newest++ {
				r.Generations[r.Newest] = &Generation{}
			}
		},
	} {
		r := sound()
		spoil(r)
		if _, err := readRecord(encoded(t, r)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

// A record that nobody can read changes nothing where a good one stands; alone it is no reason to begin at generation 1.
func TestWhatCannotBeReadIsNotTakenForNothing(t *testing.T) {
	v := newView("warehouse")
	if rec, err := v.known(); err != nil || rec.Serving != 1 || !rec.At.IsZero() {
		t.Errorf("%+v %v", rec, err)
	}
	if v.take(at(recordKey, []byte(`{"serving":7}`))) == nil {
		t.Error("a record without its generation was taken")
	}
	if _, err := v.known(); err == nil {
		t.Error("what cannot be read was taken for generation 1")
	}
	if err := v.take(at(recordKey, encoded(t, sound()))); err != nil {
		t.Fatal(err)
	}
	_ = v.take(at(recordKey, []byte(strings.Repeat("x", 100))))
	if rec, err := v.known(); err != nil || rec.Newest != 2 {
		t.Errorf("%+v %v", rec, err)
	}
}

// Progress is that of the rebuild and the state that the record tells of, or of none.
func TestProgressBelongsToAState(t *testing.T) {
	v := newView("warehouse")
	if err := v.take(at(recordKey, encoded(t, sound()))); err != nil {
		t.Fatal(err)
	}
	before := v.record
	for _, p := range []progressed{{"r1", Building, Progress{Events: 7}}, {"r1", Verifying, Progress{Events: 8}}, {"r0", Building, Progress{Events: 9}}} {
		if err := v.take(at(progressKey, encoded(t, p))); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.current().Rebuild.Progress.Events; n != 7 {
		t.Errorf("%d events", n)
	}
	if before.Rebuild.Progress.Events != 5 {
		t.Error("a record that was handed out has changed")
	}
}

// A request is open until it is answered, and is one however often it is written.
func TestARequestIsOpenUntilItIsAnswered(t *testing.T) {
	v := newView("warehouse")
	ask := encoded(t, Request{ID: "q", Action: Pause})
	for _, b := range [][]byte{ask, ask, encoded(t, Request{ID: "p", Action: Resume})} {
		if err := v.take(at("q", b)); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.open) != 2 || v.open[0].ID != "q" {
		t.Fatalf("%d open", len(v.open))
	}
	if err := v.take(at("q", encoded(t, Answer{ID: "q", OK: true}))); err != nil {
		t.Fatal(err)
	}
	if len(v.open) != 1 || v.open[0].ID != "p" || !v.answers["q"].OK {
		t.Errorf("%d open, answers %v", len(v.open), v.answers)
	}
}

func FuzzTheTopic(f *testing.F) {
	f.Add(recordKey, encoded(f, sound()))
	f.Add(progressKey, encoded(f, progressed{"r1", Building, Progress{Events: 7}}))
	f.Add("q", encoded(f, Request{ID: "q", Action: Start, Options: &Options{From: "2026-01-01T00:00:00Z"}}))
	f.Add("q", encoded(f, Answer{ID: "q", Reason: "no"}))
	f.Add(recordKey, []byte(`{"serving":1,"newest":1,"generations":{"1":null}}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		v := newView("s")
		_ = v.take(at(key, value))
		_ = v.take(at(recordKey, value))
		rec, err := v.known()
		if err != nil {
			return
		}
		if rec.Serving < 1 || rec.Newest < rec.Serving {
			t.Errorf("%d of %d serves", rec.Serving, rec.Newest)
		}
		if v.record == nil {
			return
		}
		again, err := readRecord(encoded(t, rec))
		if err != nil || again.Serving != rec.Serving {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}

// Anybody may write on the topic: requests that wait and answers that nobody waits for have a bound.
func TestWhatIsRememberedOfATopicHasABound(t *testing.T) {
	v := newView("warehouse")
	for i := range maxAnswers + 10 {
		id := fmt.Sprint("a", i)
		if err := v.take(at(id, encoded(t, Answer{ID: id, OK: true}))); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.answers) != maxAnswers || len(v.answered) != maxAnswers || v.answers["a9"] != nil || v.answers[fmt.Sprint("a", maxAnswers+9)] == nil {
		t.Errorf("%d answers are remembered", len(v.answers))
	}
	for i := range maxOpen + 10 {
		id := fmt.Sprint("q", i)
		if err := v.take(at(id, encoded(t, Request{ID: id, Action: Pause}))); (err != nil) != (i >= maxOpen) {
			t.Fatal(i, err)
		}
	}
	if len(v.open) != maxOpen {
		t.Errorf("%d requests wait", len(v.open))
	}
	if err := v.take(at("q3", encoded(t, Answer{ID: "q3", OK: true}))); err != nil || len(v.open) != maxOpen-1 {
		t.Errorf("%d requests wait after an answer: %v", len(v.open), err)
	}
}
