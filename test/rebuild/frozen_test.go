package rebuild

import (
	"fmt"
	"testing"

	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/test/harness"
)

// Promise 8: who leads is fenced as well. A leader is frozen right before readers are moved to the new generation; another process takes over, moves them, and on
// somebody's word moves them back. The frozen one is woken, and changes nothing.
func TestPromise8_AFrozenLeaderChangesNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range some(t, 1, "postgres", "opensearch", "redis") {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind, "")
			r.fill(600)
			r.start()
			r.ready()
			reader := r.watch()
			r.load()
			r.stop()
			r.declare(newFee)
			port, err := harness.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			frozen := r.startAt(fmt.Sprintf("127.0.0.1:%d", port), harness.CrashBinary(t), "MILLRACE_FREEZE_POINT=rebuild-serve")
			r.ok("rebuild", r.name, "--accept-changes", "--detach")
			frozen.WaitLine(t, "freeze point rebuild-serve", patience)
			r.start()
			if rec := r.in(rebuild.Soaking); rec.Serving != 2 {
				t.Errorf("it is\n%s", shown(rec))
			}
			reader.more()
			r.ok("rebuild", "rollback", r.name)
			frozen.Thaw(t)
			reader.more()
			// It has understood when it shares the work, or has ended.
			r.unload()
			if code := frozen.Stop(t, patience); code != 0 && code != 1 {
				t.Errorf("the frozen one ended with %d:\n%s", code, frozen.Output())
			}
			if rec := r.read(); rec.Serving != 1 || rec.Rebuild != nil {
				t.Errorf("it is\n%s", shown(rec))
			}
			r.fill(50)
			r.caughtUp()
			reader.end()
			r.stop()
			r.declare(oldFee)
			r.holds(1, 2)
		})
	}
}
