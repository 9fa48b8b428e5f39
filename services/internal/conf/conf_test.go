package conf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
  zero:   {kind: "${ZERO}", wait: "${WAIT:-2w}"}
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
	if z := s.Sinks["zero"]; z.Kind != "007" || z.Wait != 14*24*time.Hour {
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
		{"sinks:\n  a: {kind: {nested: s3cret}}\n", `millrace.yaml:2: sinks.a.kind: mapping where string is wanted`},
		{"sinks:\n  a: {kind: [s3cret]}\n", `millrace.yaml:2: sinks.a.kind: list where string is wanted`},
		{"sinks:\n  a: {kind: '${file:/run/secrets/a'}\n", `millrace.yaml:2: sinks.a.kind: begins with ${ and has no closing brace`},
		{"sinks:\n  a: {kind: '${KIND'}\n", `millrace.yaml:2: sinks.a.kind: begins with ${ and has no closing brace`},
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

// A secret in a file of its own is text, whatever it looks like, and never structure.
func TestAFileFillsAValue(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("number", "0012\n")
	write("odd", "a: {b}\n${HOST} $x\r\n")
	write("two", "p\n\n")
	path := write("millrace.yaml", "kafka:\n  brokers:\n  - ${file:number}\n  - x-${file:odd}-y\n  - ${file:"+dir+"/two}\n  - $${file:number}\n  - ${file:-none}\n")
	var s sample
	if _, err := Load(path, &s); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"0012", "x-a: {b}\n${HOST} $x-y", "p\n", "${file:number}", "none"} {
		if s.Kafka.Brokers[i] != want {
			t.Errorf("%d: %q, want %q", i, s.Kafka.Brokers[i], want)
		}
	}
}

func TestAFileThatCannotFillAValueIsNamed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "\n", "zero": "a\x00b", "huge": strings.Repeat("s3cret", 1<<14), "secret": "s3cret 7"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"kafka: {brokers: [\"${file:nowhere}\"]}", ":1: kafka.brokers.0: file DIR/nowhere: no such file or directory"},
		{"kafka: {brokers: [\"${file:.}\"]}", ":1: kafka.brokers.0: file DIR: is no regular file"},
		{"kafka: {brokers: [\"${file:pipe}\"]}", ":1: kafka.brokers.0: file DIR/pipe: is no regular file"},
		{"kafka: {brokers: [\"${file:empty}\"]}", ":1: kafka.brokers.0: file DIR/empty: is empty"},
		{"kafka: {brokers: [\"${file:zero}\"]}", ":1: kafka.brokers.0: file DIR/zero: holds a zero byte: it is no text"},
		{"kafka: {brokers: [\"${file:huge}\"]}", ":1: kafka.brokers.0: file DIR/huge: is larger than 65536 bytes"},
		{"sinks: {a: {wait: \"${file:secret}\"}}", ":1: sinks.a.wait: this (not shown, for it may be a secret) is no duration: write for example 500ms, 30s, 12h, 7d or forever"},
		{"sinks: {a: {workers: \"${file:secret}\"}}", ":1: sinks.a.workers: string where int is wanted"},
	} {
		path := filepath.Join(dir, "millrace.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var s sample
		_, err := Load(path, &s)
		if want := path + strings.ReplaceAll(c.want, "DIR", dir); err == nil || err.Error() != want {
			t.Errorf("%s\n got  %v\n want %s", c.text, err, want)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "s3cret") {
				t.Errorf("shown: %v", e)
			}
		}
	}
	path := filepath.Join(dir, "millrace.yaml")
	if err := os.WriteFile(path, []byte("sinks: {a: {kind: \"${file:secret}\"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s sample
	f, err := Load(path, &s)
	if err != nil || s.Sinks["a"].Kind != "s3cret 7" {
		t.Fatal(err, s)
	}
	if got := f.Errorf("sinks.a.kind", "unknown kind %q", s.Sinks["a"].Kind).Error(); got != path+`:1: sinks.a.kind: unknown kind "xxxxx"` {
		t.Error(got)
	}
}

// What a variable holds that is named like a secret is not shown, wherever it was put; nor is a literal in the place of a duration that
// nobody meant as one.
func TestErrorsShowNoSecretInTheWrongPlace(t *testing.T) {
	env := map[string]string{"DB_PASSWORD": "hunter", "API_TOKEN": "12345m"}
	for _, c := range []struct{ text, want string }{
		{"sinks:\n  a: {wait: '${DB_PASSWORD}'}\n", `"xxxxx" is no duration`},
		{"sinks:\n  a: {wait: 'pw-${API_TOKEN}'}\n", `(not shown`},
		{"sinks:\n  a: {wait: 'hunter-2!'}\n", `this (not shown, for it may be a secret) is no duration`},
		{"sinks:\n  a: {wait: 7 days}\n", `"7 days" is no duration`},
	} {
		_, _, err := parse(t, c.text, env)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s got %v\n want %s", c.text, err, c.want)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "hunter") || strings.Contains(e.Error(), "12345") {
				t.Errorf("shown: %v", e)
			}
		}
	}
	s, f, err := parse(t, "kafka: {brokers: ['${API_TOKEN}', '${DB_PASSWORD}']}\nsinks: {a: {workers: '${PASS_N}'}}\n", map[string]string{"DB_PASSWORD": "hunter", "API_TOKEN": "007", "PASS_N": "12345"})
	if err != nil || s.Kafka.Brokers[0] != "007" || s.Sinks["a"].Workers != 12345 {
		t.Fatal(err, s)
	}
	if got := f.Errorf("kafka.brokers", "%q", s.Kafka.Brokers).Error(); !strings.Contains(got, `["007" "xxxxx"]`) {
		t.Error(got)
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
