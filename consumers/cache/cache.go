// Package cache is what the writing and the reading side of a cache agree on: the protocol and the names of its keys. The sink that
// invalidates is in the folder redis; the client that applications read through is in the folder client.
//
// # The promise
//
// No reader is served a value that was read from the database before a change, once that change's invalidation is done.
//
// # The protocol
//
// A reader that misses is handed a lease: a token that is stored beside the key for a short while. It reads the database and fills
// the key with the token; the fill is refused unless the token still stands there. An invalidation deletes the value and the token.
//
//	reader                         cache                         sink
//	Get(k)            ──▶  no value; token t, stored
//	reads version 1
//	                                                     ◀──  invalidates k after the change to version 2: t is gone
//	Fill(k, t, 1)     ──▶  refused: t does not stand
//
// Without the token, version 1 would be stored behind the invalidation and served until somebody changes k again. A fill that is
// accepted was read after the last invalidation's change, because the token was: tokens are random and never stand twice. Readers
// who miss the same key get the same token; the first to fill takes it.
//
// It holds for readers of the primary. One who reads a replica may see version 1 after the invalidation of version 2: for such there is a floor. Where the
// projection says which column is the version of the application's row (cache: {version: row_version}), an invalidation leaves it beside the key, and a
// reader of a replica fills with the version that it read: below the floor it is refused. Only keys that hold one row can have that.
//
// # Generations
//
// A rebuilt cache is another generation: other names for everything. Serving says which one readers use, and every read compares it in the step that reads
// the value, or that hands a lease out. So there is no reader who goes on with the old generation unawares. A fill goes to the generation of its lease: one that
// comes late fills what nobody reads, or what its own sink keeps invalidating for the case of a rollback. Serving moves in a script that compares positions: what was
// invalidated in the generation before is so in the one that takes over, forth and back.
//
// Values and tokens have a time to live and may be evicted at any moment: that is a miss. The states and positions that the sink
// keeps must not be: see the folder redis.
package cache

import (
	"fmt"
	"strconv"
	"strings"
)

// Names makes the names of all keys of one cache. Sink and clients must be given the same.
//
// Every name begins with {Prefix}: the braces are Redis Cluster's hash tag, so that all keys of a cache are in one slot and one
// script can change them together. A cache therefore lives on one node of a cluster; several caches spread.
type Names struct {
	// Prefix tells caches that share a server apart. Default "millrace".
	Prefix string
	// Generation is the build of the cache; a rebuild takes the next one. Default 1.
	Generation int
}

// WithDefaults returns n with zero values replaced, or an error for a prefix that cannot stand in a name.
func (n Names) WithDefaults() (Names, error) {
	if n.Prefix == "" {
		n.Prefix = "millrace"
	}
	if n.Generation == 0 {
		n.Generation = 1
	}
	if strings.ContainsAny(n.Prefix, "{}* \t\r\n") || len(n.Prefix) > 200 {
		return n, fmt.Errorf("prefix %q: braces, stars and blanks cannot stand in it, nor more than 200 bytes", n.Prefix)
	}
	if n.Generation < 0 {
		return n, fmt.Errorf("generation is %d", n.Generation)
	}
	return n, nil
}

// Of returns the names of another generation.
func (n Names) Of(generation int) Names { return Names{n.Prefix, generation} }

// Serving names the key that holds the number of the generation that readers use. It belongs to no generation. Where it is missing, generation 1 serves.
func (n Names) Serving() string { return "{" + n.Prefix + "}:serving" }

// All begins the names of everything that the generation holds.
func (n Names) All() string { return n.name("", "") }

func (n Names) name(kind, key string) string {
	return "{" + n.Prefix + "}:" + strconv.Itoa(n.Generation) + ":" + kind + key
}

// Value names the key that holds the cached value.
func (n Names) Value(key string) string { return n.name("value:", key) }

// Lease names the key that holds the token of a cached value's readers.
func (n Names) Lease(key string) string { return n.name("lease:", key) }

// Floor names the key that holds the least version of a row that may be filled in from a replica.
func (n Names) Floor(key string) string { return n.name("floor:", key) }

// State names the key that holds the state of an entity.
func (n Names) State(entity, key string) string { return n.name("state:"+entity+":", key) }

// Partition names the hash that holds epoch, owner and position of a partition.
func (n Names) Partition(topic string, partition int32) string {
	return n.name("partition:"+topic+":", strconv.Itoa(int(partition)))
}

// Quarantine names the hash of a partition's quarantined keys.
func (n Names) Quarantine(topic string, partition int32) string {
	return n.name("quarantine:"+topic+":", strconv.Itoa(int(partition)))
}

// Partitions names the set of all partitions ever claimed.
func (n Names) Partitions() string { return n.name("partitions", "") }

// Declarations names the hash of the digests of what the states were made by, by entity.
func (n Names) Declarations() string { return n.name("declarations", "") }
