package gold

import (
	"fmt"
	"strings"
)

// Note says which models readers find old, for they have failed or are halted, and what keeps Run from its work; "" if nothing is wrong. It is as of the last look.
func (r *Runner) Note() string {
	if n := r.note.Load(); n != nil {
		return *n
	}
	return ""
}

func (r *Runner) setNote(text string) { r.note.Store(&text) }

// maxNamed is how many models a note names.
const maxNamed = 5

// noteOf is the note about a state of the models.
func noteOf(all []Status) string {
	var stopped []string
	for _, st := range all {
		if st.State == "failed" || st.State == "halted" {
			stopped = append(stopped, st.Model+" "+st.State)
		}
	}
	if len(stopped) == 0 {
		return ""
	}
	more := ""
	if n := len(stopped) - maxNamed; n > 0 {
		stopped, more = stopped[:maxNamed], fmt.Sprintf(", %d more", n)
	}
	return "gold is old: " + strings.Join(stopped, ", ") + more + ": millrace gold status"
}
