// Package shop is an example application: it sells products to customers, and writes an event of all it does in the transaction
// that does it. The demonstration and the end-to-end tests run it; no product package knows it.
//
// It is built to be unkind in the ways of real applications: many connections, writers of one order or product at the same time (a
// row lock makes them take turns), transactions that roll back, also to a savepoint, transactions that draw their id long before
// they write, and now and then one that takes its time. What its own tables say is the truth that every sink is held against.
//
//	shop.go       Config, New, Run, Progress
//	tables.go     its tables, and what is in them at first
//	work.go       workers and their transactions
//	orders.go     placing orders, and what becomes of them
//	products.go   listing, prices, retiring
//	customers.go  registering, moving, renaming
//	events.go     the events as Go types
//	pages.go      the price page: readers through the cache, who notice when they are served what is no longer so
//	truth.go      what the tables say
//	pace.go       a rate, and the shop's own calendar
package shop
