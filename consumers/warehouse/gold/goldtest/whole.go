package goldtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// half is a model whose rows agree with each other in every whole build: n is the same in all, and there are n of them.
const half = "select _key, (select count(*) from {{ silver.order }}) as n from {{ silver.order }}"

const wholeCheck = "select count(*), min(n), max(n) from gold.half"

func whole(t testing.TB, w warehouse.Querier) string {
	t.Helper()
	text := rows(t, w, wholeCheck)
	parts := strings.Split(text, "|")
	if len(parts) != 3 || parts[0] != parts[1] || parts[0] != parts[2] {
		t.Errorf("a reader saw %q, which is no whole build", text)
	}
	return parts[0]
}

func readers(t *testing.T, s *shop) {
	s.order(t, "o0", "c1", "paid", "1", noon)
	built(t, runner(t, s, "half.sql", half), gold.Options{})
	stop := make(chan struct{})
	var all sync.WaitGroup
	reads := make(chan struct{}, 1)
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				whole(t, s.w)
				select {
				case reads <- struct{}{}:
				default:
				}
			}
		})
	}
	for i := range 9 {
		s.order(t, fmt.Sprint("o", i+1), "c1", "paid", "1", noon)
		built(t, runner(t, s, "half.sql", half), gold.Options{})
		<-reads
	}
	close(stop)
	all.Wait()
	same(t, "at the end", whole(t, s.w), "10")
}

func failures(t *testing.T, s *shop) {
	f := &faulty{Engine: s.Engine}
	files := []string{"half.sql", half, "revenue.sql", revenue}
	s.order(t, "o0", "c1", "paid", "1", noon)
	built(t, runner(t, f, files...), gold.Options{})
	for at := 1; ; at++ {
		s.order(t, fmt.Sprint("o", at), "c1", "paid", "1", noon)
		before, incr := whole(t, s.w), rows(t, s.w, "select orders from gold.revenue")
		n := 0
		f.exec = func(string) error {
			if n++; n == at {
				return errStaged
			}
			return nil
		}
		for _, name := range []string{"half", "revenue"} {
			n = 0
			out, err := runner(t, f, files...).Build(context.Background(), name, gold.Options{})
			if n < at { // there are no more statements to fail at
				if name == "half" {
					before = whole(t, s.w)
				}
				continue
			}
			if err != nil || out.State != "failed" || !strings.Contains(out.Error, "staged") {
				t.Fatalf("statement %d of %s: %+v, %v", at, name, out, err)
			}
		}
		if n < at {
			break
		}
		same(t, fmt.Sprintf("half after a failure at statement %d", at), whole(t, s.w), before)
		same(t, fmt.Sprintf("revenue after a failure at statement %d", at), rows(t, s.w, "select orders from gold.revenue"), incr)
	}
	f.exec, f.commit = nil, func() error { return errStaged }
	s.order(t, "last", "c1", "paid", "1", noon)
	before := whole(t, s.w)
	if _, err := runner(t, f, files...).Build(context.Background(), "half", gold.Options{}); !errors.Is(err, errStaged) {
		t.Errorf("got %v", err)
	}
	same(t, "half after a commit that failed", whole(t, s.w), before)
	f.commit = nil
	built(t, runner(t, f, files...), gold.Options{})
	same(t, "after all", whole(t, s.w), rows(t, s.w, "select orders from gold.revenue"))
}

func twoAtATime(t *testing.T, s *shop) {
	s.order(t, "o0", "c1", "paid", "1", noon)
	inside, leave := make(chan struct{}), make(chan struct{})
	f := &faulty{Engine: s.Engine, commit: sync.OnceValue(func() error { close(inside); <-leave; return nil })}
	first := make(chan error, 1)
	r := runner(t, f, "half.sql", half)
	go func() {
		_, err := r.Build(context.Background(), "half", gold.Options{})
		first <- err
	}()
	<-inside
	_, err := runner(t, s, "half.sql", half).Build(context.Background(), "half", gold.Options{})
	close(leave)
	if !errors.Is(err, gold.ErrBusy) {
		t.Errorf("the second got %v", err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
	whole(t, s.w)
}

func looks(t *testing.T, s *shop) {
	s.order(t, "o0", "c1", "paid", "1", noon)
	f := &faulty{Engine: s.Engine}
	f.commit = sync.OnceValue(func() error {
		if st := status(t, runner(t, s, "half.sql", half))["half"]; st.State != "new" {
			t.Errorf("while it is built: %+v", st)
		}
		return nil
	})
	built(t, runner(t, f, "half.sql", half), gold.Options{})
	if st := status(t, runner(t, s, "half.sql", half))["half"]; st.State != "fresh" {
		t.Errorf("%+v", st)
	}
}

func money(t *testing.T, s *shop) {
	const large = "9007199254740993.0001" // no float holds it
	s.order(t, "o1", "c1", "paid", large, noon)
	s.order(t, "o2", "c1", "paid", "0.0002", noon)
	r := runner(t, s, "revenue.sql", "/*\ntests: [{range: {column: revenue, min: 9007199254740993.0003, max: 9007199254740993.0003}}]\n*/\nselect customer_id, sum(total) as revenue from {{ silver.order }} group by customer_id")
	built(t, r, gold.Options{})
	same(t, "the sum", rows(t, s.w, "select revenue from gold.revenue"), "9007199254740993.0003")
	s.order(t, "o2", "c1", "paid", "0.0003", noon)
	if out := build(t, r, gold.Options{})["revenue"]; out.State != "failed" {
		t.Errorf("a range finds a difference of 0.0001: %+v", out)
	}
}

// killAt names, for a child of KillAndLook, the statement of a build before which it kills itself.
const killAt = "MILLRACE_GOLD_KILL_AT"

// KillAndLook is the body of a test that runs itself as a child, which is killed with SIGKILL in the middle of a build, at one statement after
// the other and before the commit. open opens the same warehouse in the child and in the parent, name is that of the test; env is handed to the child.
func KillAndLook(t *testing.T, name string, env []string, open func(t testing.TB) (w Warehouse, closed func())) {
	if at := os.Getenv(killAt); at != "" {
		buildAndDie(t, at, open)
		return
	}
	w, closed := open(t)
	engine, err := w.Gold()
	if err != nil {
		t.Fatal(err)
	}
	s := newShop(t, w, engine)
	s.order(t, "o0", "c1", "paid", "1", noon)
	built(t, runner(t, s, "half.sql", half, "revenue.sql", revenue), gold.Options{})
	closed()
	for _, at := range []string{"CREATE T", "half: INSERT INTO", "DROP TABLE", "DELETE FROM", "INSERT INTO", "commit"} {
		child(t, name, append(env, killAt+"="+at))
		w, closed := open(t)
		n := whole(t, w)
		same(t, "killed at "+at+": revenue", rows(t, w, "select orders from gold.revenue"), n)
		same(t, "killed at "+at+": half", n, "1")
		closed()
	}
	w, closed = open(t)
	defer closed()
	if engine, err = w.Gold(); err != nil {
		t.Fatal(err)
	}
	var out gold.Outcome
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // the server has to see that the last child is gone
		out, err = runner(t, engine, "half.sql", half).Build(context.Background(), "half", gold.Options{})
		if !errors.Is(err, gold.ErrBusy) || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || out.State != "built" {
		t.Fatalf("%+v, %v", out, err)
	}
	if n := whole(t, w); n != "7" {
		t.Errorf("there are %s orders; the children placed 6", n)
	}
}

func child(t *testing.T, name string, env []string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "-test.run=^"+name+"$")
	cmd.Env = append(append(os.Environ(), env...), "TMPDIR="+t.TempDir()) // it is killed, and takes nothing away
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the child was not killed: %v: %s", err, strings.Join(said, "\n"))
	}
}

// buildAndDie is the child: it places an order, builds, and kills itself.
func buildAndDie(t *testing.T, at string, open func(t testing.TB) (Warehouse, func())) {
	w, _ := open(t)
	engine, err := w.Gold()
	if err != nil {
		t.Fatal(err)
	}
	s := newShop(t, w, engine)
	s.order(t, fmt.Sprint("o", s.seq+1), "c1", "paid", "1", noon)
	die := func() error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	armed := false
	point, ofHalf := strings.CutPrefix(at, "half: ")
	f := &faulty{Engine: engine, exec: func(sql string) error {
		if armed && strings.HasPrefix(sql, point) {
			return die()
		}
		return nil
	}}
	f.commit = func() error {
		if armed && at == "commit" {
			return die()
		}
		return nil
	}
	r := runner(t, f, "half.sql", half, "revenue.sql", revenue)
	armed = true
	model := "half"
	if !ofHalf && (at == "DELETE FROM" || at == "INSERT INTO") {
		model = "revenue"
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := r.Build(context.Background(), model, gold.Options{}); !errors.Is(err, gold.ErrBusy) {
			t.Fatalf("the build came to its end: %v", err)
		}
	}
}
