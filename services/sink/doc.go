// Package sink runs one consumer: it puts a backend, its projections and a consumer group together.
//
//	config.go    what is configured, and what is wrong with it
//	backend.go   the kinds of backend
//	sink.go      New, Run and what an operator sees
//	live.go      the generation that serves: which one the record says, fed, and replaced while it answers
//	lost.go      which generation serves where no record says it; what nobody can open is removed
//	store.go     generations that are open, each once in a process
//	host.go      the sink as the leader of its rebuilds sees it
//	start.go     where a webhook begins
//	gold.go      the models of a warehouse, built beside the consumer
package sink
