package conf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

type sample struct {
	Kafka struct {
		Brokers []string `yaml:"brokers"`
	} `yaml:"kafka"`
	Sinks map[string]struct {
		Kind    string        `yaml:"kind"`
		Workers int           `yaml:"workers"`
		Wait    time.Duration `yaml:"wait"`
		On      bool          `yaml:"on"`
	} `yaml:"sinks"`
}

func parse(t *testing.T, text string, env map[string]string) (sample, *File, error) {
	t.Helper()
	var s sample
	f, err := Parse("millrace.yaml", []byte(text), func(k string) (string, bool) { v, ok := env[k]; return v, ok }, &s)
	return s, f, err
}

func TestLoadFillsTheStruct(t *testing.T) {
	s, _, err := parse(t, `
kafka: {brokers: ["${HOST}:9092", "b:${PORT}"]}
sinks:
  search: {kind: "${KIND:-bleve}", workers: "${N}", wait: 7d, on: "${ON}"}
  zero:   {kind: "${ZERO}"}
  cache:  {wait: forever, kind: "$${literal}"}
`, map[string]string{"HOST": "a", "PORT": "1", "N": "12", "ON": "true", "ZERO": "007"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Kafka.Brokers; got[0] != "a:9092" || got[1] != "b:1" {
		t.Errorf("brokers %q", got)
	}
	search := s.Sinks["search"]
	if search.Kind != "bleve" || search.Workers != 12 || search.Wait != 7*24*time.Hour || !search.On {
		t.Errorf("search %+v", search)
	}
	if z := s.Sinks["zero"]; z.Kind != "007" {
		t.Errorf("a variable that looks like a number is text where text is wanted: %+v", z)
	}
	if c := s.Sinks["cache"]; c.Wait != Forever || c.Kind != "${literal}" {
		t.Errorf("cache %+v", c)
	}
}

// What a variable holds stays a value, whatever characters are in it.
func TestVariablesNeverBecomeStructure(t *testing.T) {
	evil := "x\nsinks: {a: {kind: b}} # ${HOST} 'q' \"d\""
	s, _, err := parse(t, "kafka:\n  brokers:\n  - ${V}\n", map[string]string{"V": evil})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Sinks) != 0 || s.Kafka.Brokers[0] != evil {
		t.Errorf("%+v", s)
	}
}

func TestErrorsNameFileLineAndKey(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"kafka:\n  brokers: [a]\n  broker: b\n", `millrace.yaml:3: kafka.broker: unknown key`},
		{"kafka:\n  brokers: ${NOPE}\n", `millrace.yaml:2: kafka.brokers: environment variable NOPE is not set (set it, or write ${NOPE:-default})`},
		{"sinks:\n  a:\n    wait: 7\n", `millrace.yaml:3: sinks.a.wait: "7" is no duration: write for example 500ms, 30s, 12h, 7d or forever`},
		{"sinks:\n  a: {workers: many}\n", `millrace.yaml:2: sinks.a.workers: string where int is wanted`},
		{"kafka: {brokers: [a]}\nkafka: {brokers: [a]}\n", `millrace.yaml:2: mapping key "kafka" already defined at [1:1]`},
		{"kafka: [a\n", `millrace.yaml:1: sequence end token ']' not found`},
	} {
		_, _, err := parse(t, c.text, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q\n got  %v\n want %s", c.text, err, c.want)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %T is no *Error", c.text, err)
		}
	}
}

func TestErrorfFindsTheLine(t *testing.T) {
	_, f, err := parse(t, "kafka:\n  brokers: [a]\nsinks:\n  x:\n    kind: nope\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Errorf("sinks.x.kind", "unknown kind %q", "nope").Error(); got != `millrace.yaml:5: sinks.x.kind: unknown kind "nope"` {
		t.Error(got)
	}
	if got := f.Errorf("sinks.x.path", "is missing").Error(); got != `millrace.yaml:4: sinks.x.path: is missing` {
		t.Error(got)
	}
	_, f, err = parse(t, "sinks:\n  x: {kind: a}\n  x.y:\n    kind: b\nkafka:\n  brokers:\n  - a\n  - b\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, line := range map[string]string{"sinks.x.kind": "2", "sinks.x.y.kind": "4", "kafka.brokers.1": "8", "kafka.brokers.7": "6", "nothing": ""} {
		want := "millrace.yaml:" + line + ": " + key + ": wrong"
		if line == "" {
			want = "millrace.yaml: " + key + ": wrong"
		}
		if got := f.Errorf(key, "wrong").Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestLoadReadsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	if _, err := Load(path, &sample{}); err == nil || err.Error() != path+": no such file or directory" {
		t.Error(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, &sample{}); err != nil {
		t.Errorf("an empty file is a configuration of defaults: %v", err)
	}
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	for text, d := range map[string]time.Duration{"7d": 168 * time.Hour, "forever": Forever, "1h": time.Hour, "1m30s": 90 * time.Second,
		"2ms": 2 * time.Millisecond, "90m": 90 * time.Minute, "0s": 0, "1m": time.Minute} {
		got, err := ParseDuration(text)
		if err != nil || got != d {
			t.Errorf("%s: %v, %v", text, got, err)
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Errorf("%v is written %s", d, FormatDuration(d))
		}
	}
	if got := FormatDuration(90 * time.Minute); got != "1h30m" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("kafka: {brokers: [\"${A}\"]}\nsinks: {a: {wait: 1d}}"))
	f.Add([]byte("a: &x {b: *x}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s sample
		_, err := Parse("f", raw, func(string) (string, bool) { return "1", true }, &s)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%T %v", err, err)
		}
	})
}
