package relay

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/outbox/store"
)

func someCursor() *cursor {
	return &cursor{
		T: 12, Seq: 3456, Last: store.Snapshot{Xmin: 10, Xmax: 20, Xip: []uint64{10, 12}},
		Upper: store.Snapshot{Xmin: 12, Xmax: 31, Xip: []uint64{12}}, Position: 700, Row: 700, EventID: uuid.UUID{1, 2, 3},
		Source:     store.Source{SystemID: "7301234567890123456", Timeline: 1, LSN: 0x16B374D848, Xmax: 31},
		Partitions: map[string]int32{"shop.orders": 12}, Time: time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC),
	}
}

func TestCursorSurvivesItsRecord(t *testing.T) {
	between := someCursor()
	between.Upper, between.Position = store.Snapshot{}, 0
	first := someCursor()
	first.Last = store.Snapshot{}
	for _, want := range []*cursor{someCursor(), between, first} {
		value, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeCursor(value)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestCursorRecordIsReadableByPeople(t *testing.T) {
	value, err := someCursor().encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"v":1,"t":12,"seq":3456,"last":"10:20:10,12","upper":"12:31:12","position":700,"row":700,` +
		`"event":"01020300-0000-0000-0000-000000000000","source":{"system":"7301234567890123456","timeline":1,` +
		`"lsn":"16/B374D848","xmax":31},"partitions":{"shop.orders":12},"time":"2026-03-04T05:06:07.000008Z"}`
	if string(value) != want {
		t.Errorf("got  %s\nwant %s", value, want)
	}
}

func TestUnreadableCursorsStop(t *testing.T) {
	good, err := someCursor().encode()
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, value := range map[string]string{
		"empty": "", "no JSON": "nonsense", "an array": "[]", "later version": change(`"v":1`, `"v":3`),
		"t zero": change(`"t":12`, `"t":0`), "negative seq": change(`"seq":3456`, `"seq":-1`),
		"bad last": change("10:20:10,12", "20:10:"), "bad upper": change("12:31:12", "x"),
		"upper before last": change("12:31:12", "2:3:"), "no position": change(`"position":700,`, ""),
		"no upper": change(`"upper":"12:31:12",`, ""), "bad lsn": change("16/B374D848", "16-B3"),
		"no source": change(`"system":"7301234567890123456"`, `"system":""`), "no partitions": change(`"shop.orders":12`, `"shop.orders":0`),
		"bad event": change("01020300-0000", "0102030g-0000"), "too large": strings.Repeat(" ", maxCursorBytes+1),
	} {
		if _, err := decodeCursor([]byte(value)); !errors.Is(err, ErrCursorUnreadable) || !mustStop(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeCursor(f *testing.F) {
	good, err := someCursor().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"v":1,"t":1,"last":"","source":{"system":"1","lsn":"0/0"},"event":null}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := decodeCursor(value)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			return // a time outside the years that JSON can say
		}
		d, err := decodeCursor(again)
		if err != nil {
			t.Fatalf("%s was read and written as %s, which is refused: %v", value, again, err)
		}
		if !d.Last.Equal(c.Last) || !d.Upper.Equal(c.Upper) || d.T != c.T || d.Seq != c.Seq || d.Position != c.Position {
			t.Fatalf("%s became %s", value, again)
		}
	})
}

// What a relay that delivers at least once adds comes back as it was; what none writes is refused.
func TestCursorsWithAnIntent(t *testing.T) {
	c := someCursor()
	c.stamp = stamp{Epoch: 3, Writer: "w", Claim: true, At: 70}
	c.Intent = &intent{Upper: c.Upper, Row: 900, Done: 1, Partitions: map[string]int32{"new": 3}}
	for i := range 10 {
		c.Intent.add(i == 4, int64(c.Seq)+int64(2*i), int64(c.Seq)+int64(i))
	}
	value, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeCursor(value)
	if err != nil || !reflect.DeepEqual(back.Intent, c.Intent) || back.stamp != c.stamp {
		t.Fatalf("%v\n%+v\n%+v", err, back, c)
	}
	if back.clone().stamp != (stamp{Epoch: 3, Writer: "w"}) {
		t.Error("a copy claims the cursor again")
	}
	for name, spoil := range map[string]func(*intent){
		"no rows": func(i *intent) { i.Rows = 0 }, "too many": func(i *intent) { i.Rows = maxPageSize + 1 },
		"all done": func(i *intent) { i.Done = i.Rows }, "negative": func(i *intent) { i.Done = -1 },
		"bits": func(i *intent) { i.Parked = make([]byte, 3) }, "no end": func(i *intent) { i.Upper = store.Snapshot{} },
		"no row": func(i *intent) { i.Row = 0 }, "partitions": func(i *intent) { i.Partitions = map[string]int32{"new": 0} },
	} {
		d := c.clone()
		wrong := *c.Intent
		spoil(&wrong)
		d.Intent = &wrong
		value, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeCursor(value); !errors.Is(err, ErrCursorUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
