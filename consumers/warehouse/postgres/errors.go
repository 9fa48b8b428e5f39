package postgres

import "errors"

var (
	// ErrRebuild is what Open's error wraps when a declaration and the store do not belong together: the declaration has changed in a way
	// that the rows cannot follow, or is new and its topic's events have gone by. The entity must be rebuilt. It is systemic.
	ErrRebuild = errors.New("the entity must be rebuilt")
	// ErrReplaced is what a commit's error wraps when another process has opened the warehouse with another declaration of an entity, and
	// changed its table. It is systemic: this process has to be restarted with that declaration.
	ErrReplaced = errors.New("another process has opened the warehouse with another declaration")
	// ErrURL is what Open and CheckURL return for a connection string that is not understood. It holds a password: no part of it is in
	// the message.
	ErrURL = errors.New("the connection string is not understood; write postgres://user:password@host:5432/database")
	// ErrClosed is what every call returns after Close.
	ErrClosed = errors.New("the warehouse is closed")
)

var (
	errUnknownEntity = errors.New("the warehouse has no such entity")
	// errMoved is what a commit meets when the tables have changed since this process looked at them.
	errMoved = errors.New("the tables of the warehouse have changed")
)
