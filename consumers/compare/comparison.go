package compare

import (
	"time"

	"github.com/millrace/millrace/consumers"
)

// Comparison is what verifying two generations at one cut has shown.
type Comparison struct {
	At time.Time `json:"at"`
	// Cut are the positions at which they were compared.
	Cut []Cut `json:"cut"`
	// Entities are the results by entity.
	Entities map[string]*Compared `json:"entities"`
	// Equal says that nothing differs.
	Equal bool `json:"equal"`
	// Acceptable says that whatever differs is made by a change of a declaration.
	Acceptable bool          `json:"acceptable"`
	Took       time.Duration `json:"took"`
}

// Cut is a position of a partition.
type Cut struct {
	consumers.TopicPartition
	Offset int64 `json:"offset"`
}

// Compared is the comparison of one entity in two generations, or in a sink and its topic.
type Compared struct {
	// Old and New count states that exist, by partition; Sums are order-free checksums over the columns that must be equal.
	Old []Side `json:"old"`
	New []Side `json:"new"`
	// Changed are the columns whose declaration differs: added, gone, retyped or set by other rules; with examples of values that differ.
	Changed []ChangedColumn `json:"changed,omitempty"`
	// Differences are keys that differ in what must be equal: the first of them, and how many there are.
	Differences []Difference `json:"differences,omitempty"`
	Different   int64        `json:"different"`
	// Moved counts keys that were written while they were read, and were compared one by one at equal versions. Where there are any, the counts and sums
	// of the two sides are of different moments, and say nothing.
	Moved int64 `json:"moved,omitempty"`
}

// Side is what one generation holds of a partition.
type Side struct {
	Partition int32  `json:"partition"`
	States    int64  `json:"states"`
	Deleted   int64  `json:"deleted"`
	Sum       string `json:"sum"`
}

// ChangedColumn is a column that the new declaration makes in another way.
type ChangedColumn struct {
	Column string `json:"column"`
	// How is added, gone, retyped or redefined; or existence, for what makes states begin and end: then a column is listed whose own rules are the same, and
	// Column is empty for the states that are there on one side only.
	How string `json:"how"`
	// States counts those whose value differs.
	States   int64     `json:"states"`
	Examples []Example `json:"examples,omitempty"`
}

// Example is a value before and after.
type Example struct {
	Key string `json:"key"`
	Old string `json:"old"`
	New string `json:"new"`
}

// Difference is a state that is not as it should be.
type Difference struct {
	Entity string `json:"entity"`
	Key    string `json:"key"`
	// Kind is one of the Kinds.
	Kind Kind `json:"kind"`
	// Columns differ; Old and New (or: what the sink holds and what the topic says) are what they hold, cut to a length fit to be read.
	Columns []string `json:"columns,omitempty"`
	Old     string   `json:"old,omitempty"`
	New     string   `json:"new,omitempty"`
	// Version is that of the state that is right; Since the time of its last event.
	Version int64     `json:"version,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Kind is how a state differs from what it should be.
type Kind string

// The kinds of differences. A state that was deleted, and none, are alike.
const (
	Missing    Kind = "missing"    // it should be there
	Unexpected Kind = "unexpected" // it should not be there
	Doubled    Kind = "doubled"    // it is there more than once
	Version    Kind = "version"    // it should be as another event left it
	Columns    Kind = "columns"    // some of its values, or whether it exists, are others
)
