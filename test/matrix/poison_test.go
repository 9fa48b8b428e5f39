package matrix

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// poison is a record that cannot be decoded, as the first of a batch, as the last, and as every one of it. Its key waits from there on,
// over a kill as well; the others go on.
func poison(t *testing.T, kind string) {
	r := newRig(t, kind, 1)
	var records []*kgo.Record
	good := func(n int) {
		for i := range n {
			records = append(records, r.event(fmt.Sprintf("key-%02d", i%23), fmt.Sprint("memo ", i)))
		}
	}
	records = append(records, r.bad("bad-first"))
	good(98) // batches of 50: 1 and 49, 49 and 1, 50
	records = append(records, r.bad("bad-last"))
	whole := 0
	for ; whole < 50; whole++ {
		records = append(records, r.bad(fmt.Sprintf("bad-%02d", whole)))
	}
	good(50)
	r.produce(records...) // before the start: batches are full
	victim := r.start()
	r.caughtUp()

	// Behind the bad ones: what comes later of their keys waits, in the next process, too.
	var waiting []string
	victim.kill(t)
	r.start()
	var later []*kgo.Record
	for _, key := range []string{"bad-first", "bad-last", "bad-07"} {
		later = append(later, r.event(key, "behind"))
		waiting = append(waiting, key)
		delete(r.truth, key)
	}
	r.produce(later...)
	r.fill(50)
	r.aside = 2 + whole + len(later)
	r.verify()
	for _, key := range waiting {
		r.truth[key] = account{}
	}
	states, _ := r.stored()
	for _, key := range waiting {
		if s, there := states[key]; there {
			t.Errorf("%s is quarantined and has the state %+v", key, s)
		}
	}
}

// hostile is bytes that stores choke on, as keys and as values.
func hostile(t *testing.T, kind string) {
	r := newRig(t, kind, 2)
	nasty := []string{
		"\x00", "a\x00b", "'; DROP TABLE silver.account; --", `"{}[]\`, "\u2028\u2029", "\ufeff", "\U0010ffff", "../../etc/passwd", "%s%n$(id)`id`", "*", "_id:*", "\t\r\n",
		"\x1b[2J", strings.Repeat("long ", 2000), "NULL", "\u202eevil", "\\u0000", "é", "e\u0301",
	}
	var records []*kgo.Record
	for i, text := range nasty {
		records = append(records, r.event("k-"+text, text), r.event(fmt.Sprintf("plain-%d", i), text))
		if strings.Contains(text, "\x00") || len(text) > 4096 { // no key for any store
			delete(r.truth, "k-"+text)
			r.aside++
		}
	}
	frame := r.event("frame", "").Value[:5]
	delete(r.truth, "frame")
	raw := func(key string, payload ...byte) *kgo.Record {
		r.seq++
		return r.record(key, append(slices.Clone(frame), payload...), r.seq)
	}
	r.seq++
	hostileBytes := []*kgo.Record{
		raw("x-1"), raw("x-2", 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), raw("x-3", 0xfe, 0xff, 0xff, 0xff, 0x0f),
		raw("x-4", 2, 'a', 2, 4, 0xff, 0xfe), raw("\xff\xfe", 2, 'a', 2, 2, 'b'), r.record("x-5", nil, r.seq),
	}
	r.produce(append(records, hostileBytes...)...)
	p := r.start()
	r.fill(100)
	r.caughtUp()
	if log := p.Output(); strings.Contains(log, "panic") || strings.Contains(log, "\x1b") {
		t.Errorf("the log:\n%s", log)
	}
	r.aside += len(hostileBytes)
	r.verify()
}
