// Package rebuild builds a sink anew while it serves, proves the new generation equal, and swaps it in; promise 8.
//
// A generation is one complete store of a sink: states, events, positions and quarantine. Which one serves says the record of generations, on a compacted topic of the sink.
// Every process of the sink follows it. One of them leads: it carries out what is asked for, feeds the generation that does not serve, and alone writes the record.
//
//	planned       the declarations are written down, and a number is given
//	building      a consumer group of its own feeds the new generation, throttled; nothing leaves it but into its store
//	catching-up   it comes up with the one that serves
//	verifying     both are compared at one cut, key by key; what serves is not stopped for it. What readers need beside the states is made
//	refused       they differ: accept what the declarations change, or abort
//	cutting-over  the one that serves is fenced, the new one comes up with it, and readers are moved in one step
//	soaking       the former generation follows, for a rollback, which is a cut over the other way round
//	retiring      what does not serve is removed
//	failed        the new generation cannot be built: what serves is not touched
//
// What holds:
//
//  1. Every state is durable before it is acted upon, and every step can be repeated: whoever leads next goes on from the record.
//  2. A former leader writes nothing: its transactional id is taken before the record is read. One that cannot tell what became of a write leads no more: the record at hand may be old. (Where the broker has no transactions, the group alone tells leaders apart.)
//  3. After a swap is recorded nobody moves the former generation: a consumer asks for the newest record after each claim (feed.go), and the leader claims every
//     partition once it is written.
//  4. Readers are moved to a generation that has everything they have seen, and only to one that was compared (promise 8).
//  5. What was decided about dead letters is repeated, and nothing is decided anew: what cannot be applied and could be before fails the rebuild.
//  6. Bytes on the topic are anybody's: what cannot be read changes nothing, and alone is no reason to begin at generation 1.
//
// Metrics, all with a label sink, of the process that leads: millrace_rebuild_state (1 for the state), millrace_rebuild_events_total, millrace_rebuild_remaining, millrace_rebuild_rate, millrace_rebuild_lag
// (of the generation that serves), millrace_rebuild_throttled, millrace_rebuild_different.
//
// Tests stop or kill a process at named points (points.go; a binary built with the tag crashpoints): rebuild-STATE, when the record of a state is written; rebuild-work-begun, rebuild-held,
// rebuild-compared, rebuild-fenced, rebuild-serve, rebuild-served, rebuild-following, rebuild-remove, rebuild-removed.
//
// The files in the order of reading: record.go (what is known of a sink's generations), parse.go (read from bytes of anybody), view.go and tail.go (the topic read to its
// end and on), client.go (what a command does), log.go (what a process of the sink does), term.go (the leader's writing); host.go (what the sink gives), job.go (from state to state), ask.go
// (requests), work.go (the generation beside), bronze.go (what the log does not have any more), build.go, verify.go, cutover.go, await.go, soak.go (the states), feasible.go (what is looked at first), recreated.go (topics that are others by now); feed.go (a generation being fed), letters.go, decisions.go and settle.go
// (dead letters), pace.go, heed.go and lagging.go (the throttle), metered.go and metrics.go, points.go.
package rebuild
