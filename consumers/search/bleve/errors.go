package bleve

import "errors"

var (
	// ErrDeclaration is what Open returns, marked systemic, for an index that other declarations built. Documents of two
	// declarations must not mix: a new generation has to be built.
	ErrDeclaration = errors.New("search index was built by other declarations")
	// ErrLocked is what Open returns while another process has the index open.
	ErrLocked = errors.New("search index is open in another process")
	// ErrClosed is what every method returns after Close.
	ErrClosed = errors.New("search index is closed")
)
