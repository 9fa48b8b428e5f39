// Package crashpoint lets a test have a process killed or frozen at a named moment. The product calls Reach at its points; nothing happens there unless the
// binary was built with the tag crashpoints, which the product is not.
//
// A binary that was built with it takes points from its environment:
//
//	MILLRACE_CRASH_POINT=produced:3    SIGKILL when the point is reached for the third time
//	MILLRACE_FREEZE_POINT=fence:2      SIGSTOP when it is reached for the second time; SIGCONT lets it go on
//
// The points have their names in points.go of services/relay and consumers/rebuild, and in consumers/fold/repair.go.
package crashpoint
