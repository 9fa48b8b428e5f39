// Package quietterm keeps a library from asking the terminal for its background when the program starts. Bubble Tea does so in its init, which
// makes every command print a question, and wait five seconds for the answer where nobody gives one: docker run -t, ssh -tt in a job, expect.
//
// A terminal that is called dumb is not asked. So TERM says that while packages are initialised, until main calls Restore. That this package comes
// first is Go's rule: packages without unmet imports are initialised in the order of their paths, and Bubble Tea waits for some that come later.
// It must import nothing but os.
package quietterm

import "os"

var was, had = os.LookupEnv("TERM")

func init() { os.Setenv("TERM", "dumb") }

// Restore gives TERM the value that it had. Before it is called, nothing should look at the terminal.
func Restore() {
	if !had {
		os.Unsetenv("TERM")
		return
	}
	os.Setenv("TERM", was)
}
