package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/millrace/millrace/services/millrace/doctor"
)

var somethingWrong = doctor.Report{Findings: []doctor.Finding{
	{System: "postgres", Outbox: "shop", Check: "version", Severity: doctor.OK, What: "PostgreSQL 17.2"},
	{System: "postgres", Outbox: "shop", Check: "fsync", Severity: doctor.Error, What: "fsync is off", Why: "a crash loses commits", Mend: "ALTER SYSTEM SET fsync = on;"},
	{System: "kafka", Check: "brokers", Severity: doctor.Note, What: "1 broker", Why: "evil \x1b[2J application"},
	{System: "registry", Check: "compatibility", Severity: doctor.Warning, What: "NONE", Why: "nothing is refused", Mend: "curl"},
}}

func TestAReportForAPerson(t *testing.T) {
	const want = `postgres shop
  ok       version        PostgreSQL 17.2
  error    fsync          fsync is off
                          why: a crash loses commits
                          mend: ALTER SYSTEM SET fsync = on;

kafka
  note     brokers        1 broker
                          why: evil ·[2J application

registry
  warning  compatibility  NONE
                          why: nothing is refused
                          mend: curl

1 error, 1 warning, 1 note, 1 ok
`
	if got := reportText(somethingWrong, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := reportText(somethingWrong, true); !strings.Contains(got, "\x1b[1;31merror  \x1b[0m  fsync") || strings.Contains(got, "\x1b[2J") {
		t.Errorf("in colours: %q", got)
	}
}

func TestAReportForAProgram(t *testing.T) {
	var b bytes.Buffer
	out := format("json")
	if err := printReport(&b, &out, somethingWrong); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Findings []doctor.Finding
		Count    map[string]int
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Findings) != 4 || got.Findings[1] != somethingWrong.Findings[1] || got.Count["error"] != 1 || got.Count["ok"] != 1 {
		t.Errorf("%+v", got)
	}
	b.Reset()
	if err := printReport(&b, &out, doctor.Report{}); err != nil || !strings.Contains(b.String(), `"findings": []`) {
		t.Errorf("%s, %v", b.String(), err)
	}
	table := format("table")
	b.Reset()
	if err := printReport(&b, &table, somethingWrong); err != nil || strings.Contains(b.String(), "\x1b") {
		t.Errorf("colours where nobody sees them: %q, %v", b.String(), err)
	}
}
