package sink

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/consumers/rebuild"
)

// serves waits until a process shows a generation, and works.
func (r *runningSink) serves(generation int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("generation %d serves in the process", generation), func() error {
		s, ok := r.Status().(status)
		if !ok || s.Generation != generation {
			return fmt.Errorf("%+v", r.Status())
		}
		st, err := r.reader()
		if st == nil {
			return err
		}
		defer func() { _ = st.Close() }()
		if st.number != generation {
			return fmt.Errorf("generation %d answers", st.number)
		}
		return r.Ready()
	})
}

// Promise 8: every process of a sink moves with the record; when the one that leads goes, another one goes on.
func TestPromise8_EveryProcessMovesWithTheRecord(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(300)
	one := v.run(v.cfg, v.declare(""))
	v.recorded()
	two := v.run(v.cfg, v.declare(""))
	two.serves(1)
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Soaking)
	one.serves(2)
	two.serves(2)
	v.open(100)
	v.applied(v.generation(2, ""))
	v.applied(v.generation(1, ""))
	one.end() // it led
	v.open(100)
	v.applied(v.generation(2, ""))
	v.ask(rebuild.Rollback, nil)
	v.over("rolled-back")
	two.serves(1)
	v.open(100)
	v.applied(v.generation(1, ""))
	if states := v.server.Read("account"); len(states) != 50 || v.server.Serving() != 1 {
		t.Errorf("%d accounts in generation %d", len(states), v.server.Serving())
	}
}

// Promise 8: each state is durable. A sink that is stopped in the middle goes on from the record, in whatever state that is.
func TestPromise8_WhoeverLeadsNextGoesOnFromTheRecord(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(300)
	s := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, &rebuild.Options{Rate: 100})
	v.until("it builds", func(rec rebuild.Record) bool { return rec.Rebuild != nil && rec.Rebuild.State != rebuild.Planned })
	s.end()
	v.open(50)
	s = v.run(v.cfg, v.declare(""))
	v.inState(rebuild.Soaking)
	s.end()
	v.open(50)
	s = v.run(v.cfg, v.declare(""))
	s.serves(2)
	v.applied(v.generation(1, "")) // it follows again
	v.ask(rebuild.Rollback, nil)
	v.until("it goes back", func(rec rebuild.Record) bool { return rec.Rebuild == nil || rec.Rebuild.RolledBack })
	s.end()
	s = v.run(v.cfg, v.declare(""))
	rec := v.over("rolled-back")
	if rec.Serving != 1 || len(rec.Generations) != 1 {
		t.Errorf("%+v", rec)
	}
	s.serves(1)
	v.open(50)
	v.applied(v.generation(1, ""))
}

// Promise 8: readers never see a step backwards. What is read while generations are swapped under load, there and back, only grows.
func TestPromise8_ReadersNeverStepBack(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(200)
	v.run(v.cfg, v.declare(""))
	v.recorded()
	stop, reading := make(chan struct{}), sync.WaitGroup{}
	var back []string
	reading.Go(func() {
		seen := map[string]int64{}
		for {
			select {
			case <-stop:
				return
			default:
			}
			for key, s := range v.server.Read("account") {
				if s.Version < seen[key] {
					back = append(back, fmt.Sprintf("%s went from version %d to %d", key, seen[key], s.Version))
				}
				seen[key] = s.Version
			}
		}
	})
	loaded, loading := make(chan struct{}), sync.WaitGroup{}
	loading.Go(func() {
		for {
			select {
			case <-loaded:
				return
			default:
				v.open(5)
			}
		}
	})
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Soaking)
	v.ask(rebuild.Rollback, nil)
	v.over("rolled-back")
	close(loaded)
	loading.Wait()
	v.applied(v.generation(1, ""))
	close(stop)
	reading.Wait()
	if len(back) > 0 {
		t.Errorf("%d steps back: %s", len(back), back[:min(5, len(back))])
	}
}

// A rollback that would lose what was redriven since is refused: the former generation has the key quarantined, and not what came since.
func TestARollbackThatWouldLoseWhatWasRedrivenIsRefused(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(100)
	v.bad("account-1")
	v.open(100)
	v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Soaking)
	v.applied(v.generation(1, ""))
	v.settle(dlq.Filter{Key: "account-1"})
	if why := v.refused(rebuild.Rollback, nil); !slices.Contains([]string{`dead letters of 1 keys were redriven or discarded since the swap, and the former generation does not have that: "account-1"`}, why) {
		t.Error(why)
	}
}

// A leader that has just begun does not know yet what the former generation has in quarantine: it refuses a rollback until it does, and until that one has
// followed what was decided since.
func TestPromise8_ANewLeaderDoesNotRollBackBeforeItKnowsWhatWasRedriven(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.open(100)
	v.bad("account-1")
	v.open(100)
	s := v.run(v.cfg, v.declare(""))
	v.applied(v.generation(1, ""))
	v.recorded()
	v.ask(rebuild.Start, nil)
	v.inState(rebuild.Soaking)
	v.applied(v.generation(1, ""))
	v.settle(dlq.Filter{Key: "account-1"})
	s.end()
	letIn := v.keepOut(rebuild.Group(v.name, 1))
	v.run(v.cfg, v.declare(""))
	v.refusedWith("does not follow accounts/")
	want := fmt.Sprint(v.generation(2, "").States("account"))
	letIn()
	eventually(v.t, "the rollback", func() error {
		a, err := rebuild.Open(v.name, v.kafka...).Ask(t.Context(), rebuild.Request{Action: rebuild.Rollback})
		if err == nil && !a.OK {
			err = errors.New(a.Reason)
		}
		return err
	})
	v.over("rolled-back")
	if got := fmt.Sprint(v.generation(1, "").States("account")); got != want {
		t.Errorf("a rollback shows %s, it was %s", got, want)
	}
}

// keepOut keeps everybody out of a group until the function that it returns is called.
func (v *vault) keepOut(group string) (letIn func()) {
	var open atomic.Bool
	v.cluster.ControlKey(int16(kmsg.JoinGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if open.Load() {
			return nil, nil, false
		}
		v.cluster.KeepControl()
		if r.(*kmsg.JoinGroupRequest).Group != group {
			return nil, nil, false
		}
		out := r.ResponseKind().(*kmsg.JoinGroupResponse)
		out.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		return out, nil, true
	})
	return func() { open.Store(true) }
}

// refusedWith asks for a rollback until it is refused for a reason.
func (v *vault) refusedWith(reason string) {
	v.t.Helper()
	eventually(v.t, reason, func() error {
		if why := v.refused(rebuild.Rollback, nil); !strings.Contains(why, reason) {
			return errors.New(why)
		}
		return nil
	})
}
