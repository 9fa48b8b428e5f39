// Package rebuild builds a sink anew while it serves, proves the new generation equal, and swaps it in; promise 8.
package rebuild
