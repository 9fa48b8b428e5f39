package consumers_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
)

func decoder(t testing.TB, cfg consumers.DecoderConfig) *consumers.Decoder {
	t.Helper()
	d, err := consumers.NewDecoder(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func framed(t testing.TB, id int, fields map[string]any) []byte {
	t.Helper()
	codec, err := avro.New(texts[id])
	if err != nil {
		t.Fatal(err)
	}
	value, err := codec.AppendEncode(avro.AppendFrame(nil, id), fields)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// Promise 7: a record with a time that no store can keep does not hold up its partition.
func TestPromise7TimesStayInTheYearsOfEveryStore(t *testing.T) {
	d := decoder(t, consumers.DecoderConfig{Registry: &testRegistry{}})
	first, last := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		stamp  time.Time
		ceTime string
		want   time.Time
	}{
		{stamp: time.UnixMilli(math.MaxInt64), want: last},
		{stamp: time.UnixMilli(math.MinInt64), want: first},
		{stamp: time.UnixMilli(-1), want: time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC)},
		{stamp: time.UnixMilli(1), ceTime: "0000-02-03T04:05:06Z", want: first},
		{stamp: time.UnixMilli(1), ceTime: "9999-12-31T23:59:59-05:00", want: last},
	} {
		rec := &kgo.Record{Topic: "t", Key: []byte("k"), Value: framed(t, idAdded, map[string]any{"amount": int64(5)}), Timestamp: c.stamp}
		if c.ceTime != "" {
			rec.Headers = []kgo.RecordHeader{{Key: "ce_time", Value: []byte(c.ceTime)}}
		}
		ev, err := d.Decode(t.Context(), rec)
		if err != nil || ev.Err != nil || !ev.Time.Equal(c.want) {
			t.Errorf("%v %q: time %v, %v, %v; want %v", c.stamp, c.ceTime, ev.Time, err, ev.Err, c.want)
		}
	}
}

func TestDecode(t *testing.T) {
	d := decoder(t, consumers.DecoderConfig{Registry: &testRegistry{}})
	when := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 7200))
	rec := &kgo.Record{Topic: "t", Partition: 2, Offset: 41, Key: []byte("ключ"), Value: framed(t, idAdded, map[string]any{"amount": int64(5)}), Timestamp: when}
	ev, err := d.Decode(t.Context(), rec)
	if err != nil || ev.Err != nil {
		t.Fatal(err, ev.Err)
	}
	if ev.Topic != "t" || ev.Partition != 2 || ev.Offset != 41 || ev.Key != "ключ" || ev.Type != "test.Added" || ev.SchemaID != idAdded {
		t.Errorf("event is %+v", ev)
	}
	if ev.Seq != 42 || ev.ID != "" || !ev.Time.Equal(when.Truncate(time.Microsecond)) || ev.Time.Location() != time.UTC {
		t.Errorf("without headers: seq %d, id %q, time %s", ev.Seq, ev.ID, ev.Time)
	}
	if ev.Fields()["amount"] != int64(5) || len(ev.Payload) != len(rec.Value)-avro.FrameSize {
		t.Errorf("fields %v, payload %x", ev.Fields(), ev.Payload)
	}
	rec.Headers = []kgo.RecordHeader{{Key: "ce_id", Value: []byte("old")}, {Key: "ce_id", Value: []byte("id")}, {Key: "millrace-seq", Value: []byte("7")},
		{Key: "ce_time", Value: []byte("1969-12-31T23:59:59.999999999+02:00")}}
	ev, err = d.Decode(t.Context(), rec)
	if err != nil || ev.Err != nil {
		t.Fatal(err, ev.Err)
	}
	if ev.Seq != 7 || ev.ID != "id" || ev.Time.Format(time.RFC3339Nano) != "1969-12-31T21:59:59.999999Z" {
		t.Errorf("with headers: seq %d, id %q, time %s", ev.Seq, ev.ID, ev.Time)
	}
}

func TestDecodePoison(t *testing.T) {
	d := decoder(t, consumers.DecoderConfig{Registry: &testRegistry{}, MaxValue: 100, UnknownGrace: -1})
	good := framed(t, idAdded, map[string]any{"amount": int64(5)})
	header := func(k, v string) []kgo.RecordHeader { return []kgo.RecordHeader{{Key: k, Value: []byte(v)}} }
	for name, c := range map[string]struct {
		rec  kgo.Record
		want string
	}{
		"no key":            {kgo.Record{Value: good}, "key"},
		"key is not text":   {kgo.Record{Key: []byte{0xff}, Value: good}, "key"},
		"key with a null":   {kgo.Record{Key: []byte("a\x00b"), Value: good}, "key"},
		"key is too long":   {kgo.Record{Key: []byte(strings.Repeat("k", 9000)), Value: good}, "key"},
		"no value":          {kgo.Record{Key: []byte("k")}, "no value"},
		"empty value":       {kgo.Record{Key: []byte("k"), Value: []byte{}}, "frame"},
		"too large":         {kgo.Record{Key: []byte("k"), Value: make([]byte, 101)}, "101 bytes"},
		"not framed":        {kgo.Record{Key: []byte("k"), Value: []byte(`{"amount":5}`)}, "frame"},
		"unknown schema id": {kgo.Record{Key: []byte("k"), Value: []byte{0, 0, 0, 3, 231, 2}}, "schema id 999"},
		"truncated":         {kgo.Record{Key: []byte("k"), Value: good[:len(good)-1]}, ""},
		"too much":          {kgo.Record{Key: []byte("k"), Value: append(good[:len(good):len(good)], 1)}, ""},
		"seq is no number":  {kgo.Record{Key: []byte("k"), Value: good, Headers: header("millrace-seq", "x")}, "millrace-seq"},
		"seq is 0":          {kgo.Record{Key: []byte("k"), Value: good, Headers: header("millrace-seq", "0")}, "millrace-seq"},
		"time is no time":   {kgo.Record{Key: []byte("k"), Value: good, Headers: header("ce_time", "yesterday")}, "ce_time"},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := d.Decode(t.Context(), &c.rec)
			if err != nil {
				t.Fatal(err)
			}
			if ev.Err == nil || !strings.Contains(ev.Err.Error(), c.want) || ev.Fields() != nil {
				t.Errorf("event is %+v, want poison about %q", ev, c.want)
			}
			if string(ev.Value) != string(c.rec.Value) || ev.Key != string(c.rec.Key) {
				t.Error("key or value is not the record's")
			}
		})
	}
}

// The registry's answer decides whose fault it is.
func TestDecodeRegistryErrors(t *testing.T) {
	rec := &kgo.Record{Key: []byte("k"), Value: framed(t, idAdded, map[string]any{"amount": int64(5)})}
	for name, c := range map[string]struct {
		err    error
		text   string
		poison bool
		class  consumers.Class
	}{
		"not found":    {err: registry.ErrNotFound, poison: true},
		"invalid":      {err: registry.ErrInvalid, poison: true},
		"not a schema": {text: `{"type":"reco`, poison: true},
		"away":         {err: registry.ErrUnavailable, class: consumers.Transient},
		"timed out":    {err: context.DeadlineExceeded, class: consumers.Transient},
		"refused":      {err: registry.ErrUnauthorized, class: consumers.Systemic},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			d := decoder(t, consumers.DecoderConfig{UnknownGrace: -1, Registry: registryFunc(func(context.Context, int) (string, error) {
				calls++
				return c.text, c.err
			})})
			for range 3 {
				ev, err := d.Decode(t.Context(), rec)
				if c.poison != (err == nil && ev.Err != nil) {
					t.Fatalf("poison %v, error %v", ev.Err, err)
				}
				if !c.poison && (consumers.Classify(err) != c.class || !errors.Is(err, c.err)) {
					t.Errorf("error %v of class %d", err, consumers.Classify(err))
				}
			}
			if want := 3; c.poison && calls != 1 || !c.poison && calls != want {
				t.Errorf("the registry was asked %d times", calls)
			}
		})
	}
}

// An id that the registry does not know yet is waited for, but made-up ids hold a partition up once.
func TestDecodeWaitsForALaggingRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := false
		d := decoder(t, consumers.DecoderConfig{Registry: registryFunc(func(_ context.Context, id int) (string, error) {
			if id == idAdded && known {
				return texts[idAdded], nil
			}
			return "", registry.ErrNotFound
		})})
		rec := func(id int) *kgo.Record {
			return &kgo.Record{Key: []byte("k"), Value: append(avro.AppendFrame(nil, id), framed(t, idAdded, map[string]any{"amount": int64(5)})[5:]...)}
		}
		if _, err := d.Decode(t.Context(), rec(idAdded)); consumers.Classify(err) != consumers.Transient || !errors.Is(err, registry.ErrNotFound) {
			t.Fatalf("an unknown id is %v at once", err)
		}
		known = true
		if ev, err := d.Decode(t.Context(), rec(idAdded)); err != nil || ev.Err != nil {
			t.Fatalf("known by now: %v, %v", ev.Err, err)
		}
		time.Sleep(6 * time.Second)
		if ev, err := d.Decode(t.Context(), rec(idMoved)); err != nil || ev.Err == nil {
			t.Errorf("a made-up id after the wait is %v, %v, want poison", ev.Err, err)
		}
	})
}

type registryFunc func(context.Context, int) (string, error)

func (f registryFunc) Schema(ctx context.Context, id int) (string, error) { return f(ctx, id) }

// A writer's schema is resolved to the catalogue's of the same name: fields that the reader added have their defaults.
func TestDecodeResolvesToTheReader(t *testing.T) {
	read, err := schemas.Parse(`{"type":"record","name":"Added","namespace":"test","fields":[
		{"name":"total","aliases":["amount"],"type":"double"},{"name":"currency","type":"string","default":"EUR"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	clash, err := schemas.Parse(`{"type":"record","name":"Moved","namespace":"test","fields":[{"name":"place","type":"int"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := schemas.NewCatalogue(read, clash)
	if err != nil {
		t.Fatal(err)
	}
	d := decoder(t, consumers.DecoderConfig{Registry: &testRegistry{}, Catalogue: catalogue})
	ev, err := d.Decode(t.Context(), &kgo.Record{Key: []byte("k"), Value: framed(t, idAdded, map[string]any{"amount": int64(5)})})
	if err != nil || ev.Err != nil {
		t.Fatal(err, ev.Err)
	}
	if ev.Fields()["total"] != 5.0 || ev.Fields()["currency"] != "EUR" || len(ev.Fields()) != 2 {
		t.Errorf("fields %v", ev.Fields())
	}
	ev, err = d.Decode(t.Context(), &kgo.Record{Key: []byte("k"), Value: framed(t, idMoved, map[string]any{"place": "x"})})
	if err != nil || ev.Err == nil || ev.Type != "test.Moved" {
		t.Errorf("a schema that cannot be resolved: %+v, %v", ev, err)
	}
}

// Whatever comes from the wire, decoding neither panics nor blames the registry.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("k"), framed(f, idAdded, map[string]any{"amount": int64(5)}), "7", "2026-01-02T03:04:05Z")
	f.Add([]byte(""), []byte("\x00\x00\x00\x00\x01"), "-1", "x")
	f.Add([]byte("\xff"), []byte("\x00\x00\x00\x00\x02\xff\xff\xff\xff\x0f"), "", "")
	f.Add([]byte("k"), []byte("\x00\xff\xff\xff\xff"), "99999999999999999999", "0000-00-00T00:00:00Z")
	d := decoder(f, consumers.DecoderConfig{Registry: &testRegistry{}})
	f.Fuzz(func(t *testing.T, key, value []byte, seq, at string) {
		rec := &kgo.Record{Topic: "t", Key: key, Value: value, Headers: []kgo.RecordHeader{{Key: "millrace-seq", Value: []byte(seq)}, {Key: "ce_time", Value: []byte(at)}}}
		ev, err := d.Decode(context.Background(), rec)
		if err != nil {
			t.Fatalf("error %v", err)
		}
		if (ev.Err == nil) == (ev.Fields() == nil) {
			t.Fatalf("poison %v with fields %v", ev.Err, ev.Fields())
		}
		if ev.Err == nil && (ev.Seq < 1 || !ev.HasKey()) {
			t.Fatalf("event %+v", ev)
		}
	})
}
