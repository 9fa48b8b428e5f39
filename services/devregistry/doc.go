// Package devregistry is a schema registry in the own process, for the demo and for fast tests. It speaks the part of
// Confluent's HTTP interface that clients of Avro topics use, and checks compatibility for real; it is no place for
// production schemas: it knows one user, one node and, if asked, one file.
//
// Files, in the order in which a request passes through them:
//
//	server.go    Config, New, Run
//	routes.go    which path is which operation
//	handlers.go  requests and answers
//	store.go     subjects, versions and ids
//	delete.go    what is taken out
//	config.go    compatibility levels and mode
//	compat.go    the compatibility rules
//	file.go      what survives a restart
//	errors.go    Confluent's error codes
package devregistry
