// Package sink runs one consumer: it puts a backend, its projections and a consumer group together.
//
//	config.go    what is configured, and what is wrong with it
//	backend.go   the kinds of backend
//	sink.go      New, Run and what an operator sees
//	gold.go      the models of a warehouse, built beside the consumer
package sink
