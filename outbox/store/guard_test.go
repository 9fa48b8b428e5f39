package store

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	before := Source{SystemID: "7", Timeline: 2, LSN: 1000, Xmax: 500}
	with := func(change func(*Source)) Source {
		now := before
		change(&now)
		return now
	}
	for _, c := range []struct {
		name     string
		previous Source
		now      Source
		want     error
		says     string
	}{
		{"nothing happened", before, before, nil, ""},
		{"later", before, with(func(s *Source) { s.LSN++; s.Xmax++ }), nil, ""},
		{"first start", Source{}, before, nil, ""},
		{"standby", before, with(func(s *Source) { s.InRecovery = true; s.Timeline, s.LSN = 0, 0 }), ErrStandby, "primary"},
		{"standby at first start", Source{}, Source{SystemID: "7", InRecovery: true}, ErrStandby, "primary"},
		{"another cluster", before, with(func(s *Source) { s.SystemID = "8" }), ErrOtherSystem, "system identifier 8, the cursor has 7"},
		{"promoted", before, with(func(s *Source) { s.Timeline = 3 }), ErrOtherTimeline, "timeline 3, the cursor has 2"},
		{"an older volume, by its WAL", before, with(func(s *Source) { s.LSN-- }), ErrRestored, "0/3E7, the cursor has 0/3E8"},
		{"an older volume, by its transactions", before, with(func(s *Source) { s.Xmax-- }), ErrRestored, "499, the cursor has 500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check(c.previous, c.now)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want == nil {
				return
			}
			var source *SourceError
			if !errors.As(err, &source) || source.Now != c.now || source.Remedy == "" || !NeedsOperator(err) {
				t.Errorf("not a whole SourceError: %#v", err)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

func TestLSN(t *testing.T) {
	for _, text := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/A"} {
		lsn, err := ParseLSN(text)
		if err != nil || FormatLSN(lsn) != text {
			t.Errorf("%s came back as %s: %v", text, FormatLSN(lsn), err)
		}
	}
	for _, bad := range []string{"", "/", "1/", "/1", "1", "1/2/3", "g/1", "100000000/0", "-1/0"} {
		if lsn, err := ParseLSN(bad); err == nil {
			t.Errorf("%q was read as %d", bad, lsn)
		}
	}
}

func TestTimelineOf(t *testing.T) {
	if timeline, err := timelineOf("0000000A0000000100000002"); err != nil || timeline != 10 {
		t.Errorf("timeline %d: %v", timeline, err)
	}
	for _, bad := range []string{"", "0000000A", "X000000A0000000100000002", "0000000A00000001000000020"} {
		if timeline, err := timelineOf(bad); err == nil {
			t.Errorf("%q gives timeline %d", bad, timeline)
		}
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte("\x01" + `{"upper": "10:20:10", "system": "7", "recovery": false, "lsn": "1/2", "flushed": "1/2", "wal_file": "000000010000000000000001"}`))
	f.Add([]byte{})
	f.Add([]byte("\x01" + `{"upper": null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := parseHead(raw)
		if err == nil && h.upper.IsZero() {
			t.Errorf("%q: no upper snapshot, and no error", raw)
		}
	})
}
