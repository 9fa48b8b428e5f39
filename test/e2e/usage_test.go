package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestHelpAndCompletion(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	help := s.ok("--help")
	golden(t, "help", help)
	if got := s.ok(); got != help {
		t.Errorf("without anything it says\n%s", got)
	}
	golden(t, "help-sql", s.ok("help", "sql"))
	golden(t, "help-migrate", s.ok("migrate", "--help"))
	script := s.ok("completion", "bash")
	if bash, err := exec.LookPath("bash"); err == nil {
		cmd := exec.Command(bash, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(script, "__start_millrace") {
			t.Errorf("bash does not read the completion: %v %s", err, out)
		}
	}
	// What the script asks for: names of commands, of sinks, of formats.
	for line, want := range map[string]string{"__complete mig": "migrate", "__complete status -o ": "json", "__complete config ": "check"} {
		if got := s.ok(strings.Split(line, " ")...); !strings.Contains(got, want) {
			t.Errorf("%s: %s", line, got)
		}
	}
	p := paper(t)
	if got := p.ok("__complete", "sink", ""); !strings.Contains(got, p.name+"-search\n") {
		t.Errorf("sinks: %s", got)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	v := asJSON[map[string]any](s, "version")
	if v["duckdb"] != true || v["go"] == "" || v["version"] == "" {
		t.Errorf("%v", v)
	}
	if out := s.ok("version"); !strings.Contains(out, "with DuckDB") || !strings.HasPrefix(out, "VERSION") {
		t.Errorf("%s", out)
	}
}

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	for line, want := range map[string]string{
		"stats":               "unknown command \"stats\": did you mean status?\nSee: millrace --help\n",
		"migrate":             "say which: print, status, up\nSee: millrace migrate --help\n",
		"sql":                 "STATEMENT is missing\nSee: millrace sql --help\n",
		"status --nope":       "unknown flag: --nope\nSee: millrace status --help\n",
		"up --log-format xml": "--log-format \"xml\" is none of text, json\nSee: millrace up --help\n",
		"export t -o xml":     "invalid argument \"xml\" for \"-o, --output\" flag: \"xml\" is none of table, json\nSee: millrace export --help\n",
		"demo --rate fast":    "invalid argument \"fast\" for \"--rate\" flag: strconv.ParseFloat: parsing \"fast\": invalid syntax\nSee: millrace demo --help\n",
	} {
		if got := s.fails(2, strings.Fields(line)...); got != "millrace: "+want {
			t.Errorf("millrace %s\n got  %q\n want %q", line, got, want)
		}
	}
	p := paper(t)
	for line, want := range map[string]string{
		"sink nope":                    "millrace.yaml:14: sinks: has no \"nope\" (it has [\"NAME-cache\" \"NAME-search\" \"NAME-warehouse\"])\n",
		"sink NAME-search NAME-search": "sink NAME-search is named twice\nSee: millrace sink --help\n",
		"relay --outbox nope":          "millrace.yaml:5: outboxes: has no \"nope\" (it has [\"NAME\"])\n",
		"sql x --sink NAME-search":     "millrace.yaml:14: sinks: has no warehouse named \"NAME-search\" (it has [\"NAME-warehouse\"])\n",
		"schema push --outbox nope":    "millrace.yaml:5: outboxes: has no \"nope\" (it has [\"NAME\"])\n",
	} {
		line, want = strings.ReplaceAll(line, "NAME", p.name), strings.ReplaceAll(want, "NAME", p.name)
		if got := p.fails(2, strings.Fields(line)...); got != "millrace: "+want {
			t.Errorf("millrace %s\n got  %q\n want %q", line, got, want)
		}
	}
}

// Where nothing listens, a command says in one line what it wanted and from whom, and does not take for ever.
func TestNothingListens(t *testing.T) {
	t.Parallel()
	s := paper(t)
	s.env = append(s.env, "KAFKA=127.0.0.1:1", "REGISTRY=http://me:s3cret@127.0.0.1:1", "REDIS=redis://:s3cret@127.0.0.1:1", "DATABASE_URL=postgres://me:s3cret@127.0.0.1:1/post")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"migrate", "up"}, "outbox NAME: connect to its database: "},
		{[]string{"migrate", "status"}, "outbox NAME: connect to its database: "},
		{[]string{"schema", "push"}, "outbox NAME: connect to its database: "},
		{[]string{"schema", "list"}, "outbox NAME: connect to its database: "},
		{[]string{"parked", "list"}, "ask Kafka about __millrace.NAME.parked: "},
		{[]string{"export", "t", "--to", "t.avro"}, "ask Kafka about t: "},
		{[]string{"sql", "select 1"}, "nothing answers at http://127.0.0.1:"},
		{[]string{"search", "parcel"}, "nothing answers at http://127.0.0.1:"},
		{[]string{"sql", "select 1", "--url", "http://me:s3cret@127.0.0.1:1"}, "nothing answers at http://me:xxxxx@127.0.0.1:1: "},
	} {
		began := time.Now()
		got := s.fails(1, c.args...)
		if want := "millrace: " + strings.ReplaceAll(c.want, "NAME", s.name); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("millrace %s\n got  %q\n want %q", strings.Join(c.args, " "), got, want)
		}
		if strings.Contains(got, "s3cret") {
			t.Errorf("a secret is shown: %s", got)
		}
		if d := time.Since(began); d > 40*time.Second {
			t.Errorf("millrace %s took %v", strings.Join(c.args, " "), d)
		}
	}
	r := s.run("status")
	if r.code != 1 || !strings.Contains(r.stdout, "outbox "+s.name+": ") || !strings.Contains(r.stdout, "sink "+s.name+"-search: ") || strings.Contains(r.stdout+r.stderr, "s3cret") {
		t.Errorf("status ends with %d and says\n%s%s", r.code, r.stdout, r.stderr)
	}
	// An address that is taken is said before anything is started.
	taken := s.start("up", "--listen", s.listen)
	taken.WaitLine(t, "msg=started", patience)
	if got := s.fails(1, "up", "--listen", s.listen); !strings.HasPrefix(got, "millrace: listen for HTTP on "+s.listen+": bind: address already in use") {
		t.Errorf("a taken address: %s", got)
	}
	if code := taken.Stop(t, 30*time.Second); code != 0 {
		t.Errorf("up ended with %d although nothing but waiting was done:\n%s", code, taken.Output())
	}
}
