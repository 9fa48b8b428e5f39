// Package container writes and reads Avro object container files: the schema once, then blocks of records. They are for
// archives and exports, and every Avro tool reads them. The format is the work of github.com/linkedin/goavro/v2.
//
// Promises:
//
//  1. What a file holds is what was appended, exactly. goavro cuts decimals to their scale and has other faults with
//     logical types; so it handles values without them, and each record is read back from what goavro makes of it: a
//     difference is an error.
//  2. goavro never sees bytes that package avro has not decoded before: data can crash it.
//
// The Reader is for files of one's own. A file made to do harm can exhaust memory before a record is seen.
package container
