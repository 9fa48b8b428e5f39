package rebuild

// Points at which a test can stop or kill a process of a sink: a binary that was built with the tag crashpoints takes the point from its environment
// (internal/crashpoint). There is one for each state, rebuild-STATE, reached when the record that begins the state is written.
const (
	pointState    = "rebuild-"           // and the state
	pointServe    = "rebuild-serve"      // everything is ready, and readers still see the former generation
	pointServed   = "rebuild-served"     // readers see the new one, and the record does not say so
	pointRemove   = "rebuild-remove"     // before a generation is removed
	pointRemoved  = "rebuild-removed"    // it is, and the record does not say so
	pointFenced   = "rebuild-fenced"     // nobody can feed the former generation any more, and the new one is not there yet
	pointHeld     = "rebuild-held"       // the new generation stands at the cut, and nothing is compared
	pointCompared = "rebuild-compared"   // both are compared, and the record does not say so
	pointFollowed = "rebuild-following"  // the generation before follows
	pointStarted  = "rebuild-work-begun" // the new generation is open, and its consumer begins
)
