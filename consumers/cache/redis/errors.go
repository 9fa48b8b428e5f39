package redis

import (
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/consumers"
)

var (
	// ErrEviction is what Check returns, marked systemic, for a server that evicts keys without a time to live: it would lose states
	// and positions.
	ErrEviction = errors.New("redis evicts what the cache must keep")
	// ErrDeclaration is what Check returns, marked systemic, where other declarations made the states.
	ErrDeclaration = errors.New("the cache's states were made by other declarations")
)

// errBefore passes by itself: the batch is tried again from its first part.
var errBefore = errors.New("the part of the batch before was not carried out")

// isDenied reports errors of who we are, which no retry mends.
func isDenied(err error) bool { return redis.IsAuthError(err) || redis.IsPermissionError(err) }

// refuses reports that the server knows us and is at work, and will not do what was asked: managed servers have no CONFIG.
func refuses(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) || redis.IsAuthError(err) {
		return false
	}
	return !redis.IsLoadingError(err) && !redis.IsMasterDownError(err) && !redis.IsClusterDownError(err) && !redis.IsMaxClientsError(err) && !redis.IsTryAgainError(err)
}

// classify marks what no retry mends as systemic: credentials, rights, a full server, keys in several slots.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case redis.IsOOMError(err):
		return consumers.AsSystemic(fmt.Errorf("redis is full (maxmemory): give it more, or let it evict cached values with maxmemory-policy volatile-lru: %w", err))
	case isDenied(err), redis.HasErrorPrefix(err, "CROSSSLOT"):
		return consumers.AsSystemic(err)
	}
	return err
}
