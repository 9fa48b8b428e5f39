package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
)

func TestTableAlignsWhateverIsInIt(t *testing.T) {
	var b strings.Builder
	err := table(&b, []string{"KEY", "NAME", "NOTE"}, [][]string{
		{"1", "plain", "x"},
		{"2", "東京", "wide characters take two columns"},
		{"3", "re\x1b[31md", "an escape sequence colours nothing"},
		{"4", "a\nb\tc", "a line stays a line"},
		{"5", "abc\u202edef", "text is not turned around"},
		{"6", "bad \xff utf-8", ""},
		{"7"},
		{"8", "", "", "too many"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `KEY  NAME         NOTE
1    plain        x
2    東京         wide characters take two columns
3    re·[31md     an escape sequence colours nothing
4    a·b·c        a line stays a line
5    abc·def      text is not turned around
6    bad · utf-8
7
8
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestTableCutsLongCells(t *testing.T) {
	var b strings.Builder
	long := strings.Repeat("東", 500)
	if err := table(&b, []string{"A", "B"}, [][]string{{long, long}}); err != nil {
		t.Fatal(err)
	}
	cells := strings.Fields(strings.Split(b.String(), "\n")[1])
	for i, limit := range []int{maxCell, maxLast} {
		if w := lipgloss.Width(cells[i]); w > limit || w < limit-2 || !strings.HasSuffix(cells[i], "…") {
			t.Errorf("cell %d is %d columns wide, at most %d: %s", i, w, limit, cells[i])
		}
	}
}

// A table never says more lines than it has rows, and a cell never holds a character that a terminal acts upon.
func FuzzTable(f *testing.F) {
	f.Add("a", "b\x1b]0;title\x07", "c\r\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var out strings.Builder
		if err := table(&out, []string{a, "B"}, [][]string{{b, c}, {c, b}}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Fatalf("%d lines", n)
		}
		for _, r := range strings.ReplaceAll(out.String(), "\n", "") {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u2028' {
				t.Fatalf("%q in %q", r, out.String())
			}
		}
	})
}

func TestPrintWritesJSONThatIsNeverNull(t *testing.T) {
	var b strings.Builder
	f := format("json")
	if err := f.print(&b, []string{}, nil, nil); err != nil || strings.TrimSpace(b.String()) != "[]" {
		t.Errorf("%q %v", b.String(), err)
	}
	b.Reset()
	if err := f.print(&b, map[string]string{"a": "<&>"}, nil, nil); err != nil || !json.Valid([]byte(b.String())) || !strings.Contains(b.String(), "<&>") {
		t.Errorf("%q %v", b.String(), err)
	}
}

func TestNumbersAndTimesForAPerson(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	for d, want := range map[time.Duration]string{
		3793459: "3.8ms", 4512 * time.Millisecond: "4.5s", 12*time.Minute + 30400*time.Millisecond: "12m30s", 3*time.Hour + 12*time.Minute + 9*time.Second: "3h12m",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	now := time.Now()
	if ago(time.Time{}, now) != "-" || ago(now.Add(time.Hour), now) != "0s" {
		t.Error(ago(time.Time{}, now), ago(now.Add(time.Hour), now))
	}
	if count(1, "row", "rows") != "1 row" || count(0, "row", "rows") != "0 rows" || count(1200, "row", "rows") != "1,200 rows" {
		t.Error(count(1, "row", "rows"), count(0, "row", "rows"), count(1200, "row", "rows"))
	}
}
