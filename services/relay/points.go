package relay

// Points at which a test can stop or kill a relay: tests of this package set the hook, and a binary that was built with the tag
// crashpoints takes the point from its environment (internal/crashpoint).
const (
	pointFence      = "fence"      // before each of the transactional ids is taken
	pointFenced     = "fenced"     // both are taken, the cursor is not read
	pointFirst      = "first"      // the first start is recorded, nothing is committed
	pointClaimed    = "claimed"    // the cursor is this relay's; without transactions it was claimed by a record
	pointIntending  = "intending"  // at-least-once: before a page is announced
	pointIntended   = "intended"   // at-least-once: a page is announced, nothing of it is sent
	pointHalfway    = "halfway"    // at-least-once: the events of a page are acknowledged, what it parks is not sent
	pointProduced   = "produced"   // every record acknowledged, the commit not begun
	pointCommitting = "committing" // before the commit is asked for
	pointCommitted  = "committed"  // committed, the answer not looked at
	pointDone       = "done"       // what a request asked for is committed, the request not answered
)
