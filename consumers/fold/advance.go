package fold

import "github.com/millrace/millrace/consumers"

// Apply applies one event to the state of its key, as Fold does in a sink: for those who fold a key anew, to compare or to repair what is stored. known says that
// a store would hold the state; the answer whether it would after the event. An error is poison, unless consumers.Classify says systemic; the state is then as it
// was.
func Apply(p Projection, s *Stored, known bool, ev *consumers.Event) (bool, error) {
	c := cell{Stored: *s, known: known}
	next, err := advance(p, &c, ev)
	if err != nil {
		return known, err
	}
	new(work).take(p, &next, ev)
	*s = c.Stored
	return c.known, nil
}
