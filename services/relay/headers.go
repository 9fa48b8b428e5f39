package relay

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/outbox/store"
)

// Header names the relay writes.
const (
	headerID     = "ce_id"
	headerType   = "ce_type"
	headerSource = "ce_source"
	headerTime   = "ce_time"
	headerSeq    = "millrace-seq"
	headerTenant = "millrace-tenant"
	headerTrace  = "traceparent"
	// headerSnapshot is that of a backfill.
	headerSnapshot = "millrace-snapshot"
)

// pair is a header that the writer gave.
type pair struct{ name, value string }

// parseHeaders reads the headers of a row: tenant and trace first, the rest by name.
func parseHeaders(raw []byte) ([]pair, *fault) {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) || bytes.Equal(raw, []byte("{}")) {
		return nil, nil
	}
	var object map[string]*string
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, faultf(ReasonHeaders, "headers are not an object of strings")
	}
	pairs := make([]pair, 0, len(object))
	for name, value := range object {
		switch {
		case reserved(name):
			return nil, &fault{reason: ReasonHeaders, field: name, detail: "headers that begin with ce_ or millrace- are the relay's"}
		case value == nil:
			return nil, &fault{reason: ReasonHeaders, field: name, detail: "the header's value is null, not a string"}
		}
		pairs = append(pairs, pair{name, *value})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if d := rank(a.name) - rank(b.name); d != 0 {
			return d
		}
		return strings.Compare(a.name, b.name)
	})
	return pairs, nil
}

func reserved(name string) bool {
	return name != headerTenant && name != headerSnapshot && (strings.HasPrefix(name, "ce_") || strings.HasPrefix(name, "millrace-"))
}

func rank(name string) int {
	switch name {
	case headerTenant:
		return 0
	case headerTrace:
		return 1
	}
	return 2
}

// appendHeaders gives an event its headers.
func (f *framer) appendHeaders(b *batch, e *store.Event, seq int64, writer []pair, exactTime bool) []kgo.RecordHeader {
	if need := headersAnEvent + len(writer); cap(b.headers)-len(b.headers) < need {
		b.headers = make([]kgo.RecordHeader, 0, max(64*headersAnEvent, need))
	}
	h := b.headers[len(b.headers):]
	h = append(h, kgo.RecordHeader{Key: headerID, Value: b.uuid(e.EventID)})
	if !f.cfg.CompactHeaders {
		h = append(h, kgo.RecordHeader{Key: headerType, Value: f.typeText(e.Type)}, kgo.RecordHeader{Key: headerSource, Value: f.source})
	}
	if !f.cfg.CompactHeaders || exactTime {
		h = append(h, kgo.RecordHeader{Key: headerTime, Value: b.keep(f.times.append(b.room(timeTextMost), e.OccurredAt))})
	}
	h = append(h, kgo.RecordHeader{Key: headerSeq, Value: b.decimal(seq)})
	for _, p := range writer {
		h = append(h, kgo.RecordHeader{Key: p.name, Value: b.text(p.value)})
	}
	b.headers = b.headers[:len(b.headers)+len(h)]
	return h[:len(h):len(h)]
}

// typeText is an event's type as bytes that nobody changes; most events are of the type of the one before.
func (f *framer) typeText(name string) []byte {
	if name != f.kind || f.kindText == nil {
		f.kind, f.kindText = strings.Clone(name), []byte(name)
	}
	return f.kindText
}

func (b *batch) uuid(id uuid.UUID) []byte {
	text, _ := id.MarshalText() // never fails
	return b.keep(append(b.room(len(text)), text...))
}

func (b *batch) decimal(n int64) []byte { return b.keep(strconv.AppendInt(b.room(20), n, 10)) }
