package e2e

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A message that is not Avro, has an unknown schema id, or is hostile, becomes a dead letter: no sink stops, none crashes, and what
// comes after it is applied.
func TestAHostileMessageIsADeadLetterAndTheSinksGoOn(t *testing.T) {
	t.Parallel()
	s, broker, db := realSite(t)
	s.setUp()
	conn := db.Conn(t)
	up := s.start("up")
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	s.waitStatus("the first event is applied", caughtUp(1))

	first := readCommitted(t, broker, s.topic("parcels"), 1)[0]
	id := first.Value[:5] // the frame of post.ParcelAccepted
	frame := func(payload ...byte) []byte { return append(slices.Clone(id), payload...) }
	unknown := binary.BigEndian.AppendUint32([]byte{0}, 1<<30)
	hostile := []*kgo.Record{
		{Key: []byte("x-1"), Value: []byte("not Avro at all")},
		{Key: []byte("x-2"), Value: append(unknown, 1, 2, 3)},
		{Key: []byte("x-3"), Value: frame()},
		{Key: []byte("x-4"), Value: frame(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)},             // a string of 2^63 bytes
		{Key: []byte("x-5"), Value: frame(0xfe, 0xff, 0xff, 0xff, 0x0f)},                                           // one of 2 GiB
		{Key: []byte("x-6"), Value: append(slices.Clone(first.Value), 0)},                                          // a byte too many
		{Key: []byte("x-7"), Value: first.Value[:len(first.Value)-1]},                                              // one too few
		{Key: []byte("x-8"), Value: append(frame(6), []byte("\xff\xfe\xfd\x06abc\x06abc\x02\x02\x01\x00\x00")...)}, // text that is no UTF-8
		{Key: []byte("x-9"), Value: nil},
		{Key: nil, Value: first.Value},
		{Key: []byte("\xff\x00key\x1b[31m"), Value: first.Value},
		{Key: []byte("x-10"), Value: first.Value, Headers: []kgo.RecordHeader{{Key: "ce_id", Value: []byte("not an id\n\x1b[2J")}, {Key: "millrace-seq", Value: []byte("-1")}}},
	}
	for _, r := range hostile {
		produce(t, broker, s.topic("parcels"), r)
	}
	emit(t, conn, "post.ParcelMoved", moved("p1", "d1"))
	emit(t, conn, "post.ParcelAccepted", accepted("p2", "Kiel"))
	v := s.waitStatus("the sinks went on", caughtUp(3))
	for _, k := range v.Sinks {
		if k.DeadLetters < 8 || k.DeadLetters > int64(len(hostile)) {
			t.Errorf("%s has %d dead letters of %d hostile messages", k.Name, k.DeadLetters, len(hostile))
		}
	}
	if got := s.sql("select _key, status from silver.parcel where starts_with(_key, 'p') order by 1"); !slices.Equal(got, []string{"p1 moving", "p2 accepted"}) {
		t.Errorf("the warehouse holds %q", got)
	}
	if out := s.ok("search", "parcel", "+city:kiel"); !strings.Contains(out, "p2") {
		t.Errorf("the index answers\n%s", out)
	}
	status := s.ok("status")
	if !strings.Contains(status, "DEAD LETTERS") {
		t.Errorf("status shows\n%s", status)
	}
	if log := up.Output(); strings.Contains(log, "panic") || strings.Contains(log, "\x1b") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the log:\n%s", log)
	}
	if !up.Running() {
		t.Fatal("up has ended")
	}
	// All of it is in the topic, so all of it is in an export.
	type export struct{ Records, Raw int64 }
	if e := asJSON[export](s, "export", s.topic("parcels"), "--to", "parcels.avro"); e.Records != 3+int64(len(hostile)) || e.Raw < 7 {
		t.Errorf("export says %+v", e)
	}
	if code := up.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d", code)
	}
}
