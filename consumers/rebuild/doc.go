// Package rebuild builds a sink anew while it serves, proves the new generation equal, and swaps it in; promise 8.
//
// The files in the order of reading: record.go (what is known of a sink's generations), parse.go (read from bytes of anybody), view.go and tail.go (the topic read to its
// end and on), client.go (what a command does).
package rebuild
