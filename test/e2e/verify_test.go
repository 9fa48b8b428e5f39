package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// A person compares sinks with their topics, has keys folded anew, and follows an event, whether the sinks run or not.
func TestVerifyRepairAndTrace(t *testing.T) {
	t.Parallel()
	s, _, db := realSite(t)
	s.ok("migrate", "up")
	s.ok("schema", "push")
	up := s.start("up")
	up.WaitLine(t, "msg=started", patience)
	s.writeEvents(db)
	s.waitStatus("everything is published and applied", caughtUp(6))

	said := s.ok("verify")
	for _, want := range []string{s.name + "-warehouse", s.name + "-search", s.name + "-cache", "parcel", "depot", "(events)", "every key", "up to version 6"} {
		if !strings.Contains(said, want) {
			t.Errorf("verify does not tell of %q:\n%s", want, said)
		}
	}
	var all struct {
		Sinks []struct {
			Differences int64 `json:"differences"`
			Events      int64 `json:"events"`
		} `json:"sinks"`
	}
	if err := json.Unmarshal([]byte(s.ok("verify", s.name+"-warehouse", "--sample", "1/2", "-o", "json")), &all); err != nil || len(all.Sinks) != 1 || all.Sinks[0].Events != 6 {
		t.Errorf("%+v %v", all, err)
	}
	if said := s.ok("repair", s.name+"-warehouse", "--key", "p1"); !strings.Contains(said, "repaired") {
		t.Errorf("repair says\n%s", said)
	}
	if said := s.ok("repair", s.name+"-search", "--differences"); !strings.Contains(said, "nothing differs") {
		t.Errorf("repair says\n%s", said)
	}
	s.fails1("repair", s.name+"-warehouse", "--key", "nobody")
	s.fails(2, "repair", s.name+"-warehouse")
	s.fails(2, "verify", "--sample", "half")
	s.fails(2, "verify", "--outbox", "nobody")
	s.fails(2, "verify", "--outbox", s.name, "--entity", "parcel")
	var boxes struct {
		Outboxes []struct {
			Outbox      string `json:"outbox"`
			Rows        int64  `json:"rows"`
			Records     int64  `json:"records"`
			Differences int64  `json:"differences"`
		} `json:"outboxes"`
		Sinks []any `json:"sinks"`
	}
	if err := json.Unmarshal([]byte(s.ok("verify", "--outbox", s.name, "-o", "json")), &boxes); err != nil || len(boxes.Outboxes) != 1 || len(boxes.Sinks) != 0 ||
		boxes.Outboxes[0].Rows != 6 || boxes.Outboxes[0].Records != 6 || boxes.Outboxes[0].Differences != 0 {
		t.Errorf("%+v %v", boxes, err)
	}

	key := s.trace("p1")
	if len(key.Outbox) != 3 || len(key.Topics) != 3 || len(key.Away) != 0 || key.Outbox[0].State != "published" || key.Outbox[0].Xid == 0 {
		t.Fatalf("%+v", key)
	}
	for _, k := range key.Sinks {
		for _, st := range k.States {
			if st.Entity == "parcel" && st.Version != key.Topics[2].Seq {
				t.Errorf("%+v", k)
			}
		}
		if strings.HasSuffix(k.Name, "-warehouse") && len(k.States) == 0 {
			t.Errorf("%+v", k)
		}
	}
	id := key.Outbox[2].EventID
	if event := s.trace(id); len(event.Outbox) != 1 || len(event.Topics) != 1 || event.Topics[0].EventID != id || event.Key != "p1" {
		t.Errorf("%+v", event)
	}
	if said := s.ok("trace", "p1"); !strings.Contains(said, "row ") || !strings.Contains(said, "version") || !strings.Contains(said, "passed") {
		t.Errorf("trace says\n%s", said)
	}
	s.fails1("trace", "nothing-has-this-key")

	if code := up.Stop(t, 30*time.Second); code != 0 {
		t.Errorf("up ended with %d:\n%s", code, up.Output())
	}
	// A row that is gone is missed by its record: the command names it and fails.
	if _, err := db.Pool(t).Exec(t.Context(), `delete from outbox.event where event_id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if said := s.fails1("verify", "--outbox", s.name); !strings.Contains(said, "unknown") || !strings.Contains(said, id) {
		t.Errorf("verify says\n%s", said)
	}
	// Without their processes: a file is opened here, and a trace says what it could not ask.
	if said := s.ok("verify", s.name+"-search", s.name+"-warehouse"); !strings.Contains(said, "parcel") {
		t.Errorf("verify says\n%s", said)
	}
	if away := s.trace("p1"); len(away.Topics) != 3 || away.Away["sink "+s.name+"-warehouse"] == "" {
		t.Errorf("%+v", away)
	}
}

// tracedThrough is what trace -o json prints.
type tracedThrough struct {
	Key    string `json:"key"`
	Outbox []struct {
		EventID string `json:"event_id"`
		State   string `json:"state"`
		Xid     uint64 `json:"xid"`
	} `json:"outbox"`
	Topics []struct {
		EventID string `json:"event_id"`
		Seq     int64  `json:"seq"`
	} `json:"topics"`
	Sinks []struct {
		Name   string `json:"name"`
		States []struct {
			Entity  string `json:"entity"`
			Version int64  `json:"version"`
		} `json:"states"`
	} `json:"sinks"`
	Away map[string]string `json:"away"`
}

func (s *site) trace(what string) tracedThrough {
	s.t.Helper()
	var out tracedThrough
	if err := json.Unmarshal([]byte(s.ok("trace", what, "-o", "json")), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}
