package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// execute runs a command line and returns its exit status and what it printed.
func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	cmd, err := root.ExecuteContextC(t.Context())
	code = report(cmd, err)
	return code, out.String(), errs.String()
}

func everyCommand(root *cobra.Command, f func(*cobra.Command)) {
	f(root)
	for _, c := range root.Commands() {
		everyCommand(c, f)
	}
}

// A person who asks for help gets a sentence, an example that is a line to type, and nothing wider than a terminal.
func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	root := newRoot()
	everyCommand(root, func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q", c.CommandPath(), c.Short)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if !strings.HasPrefix(line, "  millrace ") && !strings.HasPrefix(line, "    --") && !strings.HasPrefix(line, "  source ") {
				t.Errorf("%s: example %q", c.CommandPath(), line)
			}
		}
		if c.Parent() == nil || c.Parent().Name() == "completion" {
			return // the last are cobra's own texts
		}
		for _, line := range strings.Split(c.Long, "\n") {
			if len(line) > 80 {
				t.Errorf("%s: %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
	})
}

// Examples are command lines that are understood.
func TestExamplesParse(t *testing.T) {
	everyCommand(newRoot(), func(c *cobra.Command) {
		for _, line := range strings.Split(strings.ReplaceAll(c.Example, "\\\n", ""), "\n") {
			line = strings.TrimSpace(line)
			line = strings.TrimSuffix(strings.TrimPrefix(line, "source <("), ")")
			if i := strings.IndexAny(line, "<>"); i >= 0 && !strings.Contains(line[:i], "'") && !strings.Contains(line[:i], `"`) {
				line = strings.TrimSpace(line[:i]) // the shell's part
			}
			root := newRoot()
			found, rest, err := root.Find(words(line)[1:])
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if found.Args != nil && found.HasParent() {
				if err := found.Args(found, found.Flags().Args()); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	})
}

// words splits a command line as a shell does, as far as the examples need it.
func words(line string) []string {
	var out []string
	var quote rune
	word, open := "", false
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && r == ' ':
			if word != "" || open {
				out = append(out, word)
			}
			word, open = "", false
		default:
			word += string(r)
		}
	}
	if word != "" || open {
		out = append(out, word)
	}
	return out
}

func TestWrongCommandLinesEndWithStatus2AndAHint(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"nope", "millrace: unknown command \"nope\": there are backfill, completion, config, demo, dlq, doctor, export, gold, init, migrate, parked, rebuild, relay, repair, replay, schema, search, sink, sql, status, trace, up, verify, version\nSee: millrace --help\n"},
		{"stats", "millrace: unknown command \"stats\": did you mean status?\nSee: millrace --help\n"},
		{"migrate", "millrace: say which: print, status, up\nSee: millrace migrate --help\n"},
		{"migrate upp", "millrace: unknown command \"upp\": did you mean up?\nSee: millrace migrate --help\n"},
		{"help nope", "millrace: unknown command \"nope\": there are backfill, completion, config, demo, dlq, doctor, export, gold, init, migrate, parked, rebuild, relay, repair, replay, schema, search, sink, sql, status, trace, up, verify, version\nSee: millrace help --help\n"},
		{"completion nushell", "millrace: unknown command \"nushell\": there are bash, fish, powershell, zsh\nSee: millrace completion --help\n"},
		{"sql", "millrace: STATEMENT is missing\nSee: millrace sql --help\n"},
		{"sql a b", "millrace: unexpected argument \"b\"\nSee: millrace sql --help\n"},
		{"search", "millrace: ENTITY is missing\nSee: millrace search --help\n"},
		{"search a b c", "millrace: unexpected argument \"c\"\nSee: millrace search --help\n"},
		{"sink", "millrace: NAME is missing\nSee: millrace sink --help\n"},
		{"up now", "millrace: unexpected argument \"now\"\nSee: millrace up --help\n"},
		{"export", "millrace: TOPIC is missing\nSee: millrace export --help\n"},
		{"export t", "millrace: --to FILE.avro is missing\nSee: millrace export --help\n"},
		{"status --nope", "millrace: unknown flag: --nope\nSee: millrace status --help\n"},
		{"status -o yaml", "millrace: invalid argument \"yaml\" for \"-o, --output\" flag: \"yaml\" is none of table, json\nSee: millrace status --help\n"},
		{"status --log-level loud", "millrace: --log-level \"loud\" is none of debug, info, warn, error\nSee: millrace status --help\n"},
		{"status --log-format xml", "millrace: --log-format \"xml\" is none of text, json\nSee: millrace status --help\n"},
		{"sql x --max-rows many", "millrace: invalid argument \"many\" for \"--max-rows\" flag: strconv.ParseInt: parsing \"many\": invalid syntax\nSee: millrace sql --help\n"},
	} {
		code, out, errs := execute(t, strings.Fields(c.line)...)
		if code != exitUsage || errs != c.want || out != "" {
			t.Errorf("millrace %s: status %d\n got  %q %q\n want %q", c.line, code, out, errs, c.want)
		}
	}
}

func TestErrorsAreOneLineWithoutControlCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"connect to `db`:\n\tdial a: refused\n\tdial a: refused": "connect to `db`: dial a: refused",
		"first\nsecond":                   "first; second",
		"re\x1b[31md\r\nafter\u202ewards": "re·[31md; after·wards",
	} {
		if got := oneLine(usagef("%s", in)); got != want {
			t.Errorf("%q\n got  %q\n want %q", in, got, want)
		}
	}
	answer := &answerError{"no column\x1b[1m\n\nLINE 1: select nope\n               ^\n"}
	if got := answer.text(); got != "no column·[1m\n\nLINE 1: select nope\n               ^" {
		t.Errorf("%q", got)
	}
}
