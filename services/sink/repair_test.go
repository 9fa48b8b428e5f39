package sink

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/verify"
)

// Promise 4: a repair whose process ends before the store has it, or behind that and before it is answered, is done by the next process: the state is right, and the key goes on.
func TestPromise4ARepairThatIsCutOffIsDoneByTheNextProcess(t *testing.T) {
	for name, behind := range map[string]bool{"before the store has it": false, "before it is answered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			cut, gone := make(chan struct{}, 1), make(chan struct{})
			stop := func(c fold.Commit) error {
				if !c.Replace {
					return nil
				}
				select {
				case cut <- struct{}{}:
				default:
				}
				<-gone
				return errors.New("the process has ended") // however often it tries
			}
			on := &taps{commit: func(_ context.Context, _ int, c fold.Commit) error { return stop(c) }}
			if behind {
				on = &taps{committed: func(_ int, c fold.Commit) error { return stop(c) }}
			}
			v.tap(on)
			v.open(300)
			first := v.run(v.cfg, v.declare(""))
			old := v.generation(1, "")
			v.applied(old)
			wrong := old.States("account")["account-7"]
			wrong.Values = []any{"somebody else"}
			old.Put("account", "account-7", wrong)
			old.Drop("account", "account-8")
			out := first.verified(300)
			if out.Differences != 2 {
				t.Fatalf("%s", keysOf(out))
			}
			mended := make(chan []verify.Mended, 1)
			failed := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				done, err := verify.Mend(ctx, v.name, v.kafka, out.BrokenKeys(nil, map[string]string{"account": v.topic}), nil)
				mended <- done
				failed <- err
			}()
			select {
			case <-cut:
			case done := <-mended:
				t.Fatalf("%+v %v", done, <-failed)
			}
			first.stop()
			close(gone)
			first.ended()
			v.tap(&taps{}) // nothing is in the way of the next
			v.run(v.cfg, v.declare(""))
			for _, m := range <-mended {
				if m.Outcome != consumers.Done {
					t.Errorf("%+v", m)
				}
			}
			if err := <-failed; err != nil {
				t.Error(err)
			}
			if st := old.States("account")["account-7"]; st.Values[0] == "somebody else" || st.Version != wrong.Version || !old.States("account")["account-8"].Exists {
				t.Errorf("%+v %+v", st, old.States("account")["account-8"])
			}
			v.open(50)
			v.applied(old)
			if st := old.States("account")["account-8"]; st.Version <= 300 {
				t.Errorf("the key does not go on: %+v", st)
			}
		})
	}
}

// ended waits for the end of a sink, whatever it is.
func (r *runningSink) ended() {
	r.t.Helper()
	r.once.Do(func() {
		select {
		case <-r.done:
		case <-time.After(time.Minute):
			r.t.Error("the sink does not stop")
		}
	})
}
