package cache

import (
	"errors"
	"net/url"

	"github.com/redis/go-redis/v9"
)

// ErrURL is what Dial returns for a URL that it does not understand. A URL holds a password: no part of it is in the message.
var ErrURL = errors.New("the URL is not understood; write redis://user:password@host:port/database")

// Dial makes a client for redis://[user:password@]host:port/database, rediss:// for TLS, or unix:// for a socket. With
// ?addr=host:port, any number of times, the server is a cluster. It does not wait for the server.
func Dial(address string) (redis.UniversalClient, error) {
	u, err := url.Parse(address)
	if err != nil || address == "" {
		return nil, ErrURL
	}
	if u.Query().Has("addr") {
		opts, err := redis.ParseClusterURL(address)
		if err != nil {
			return nil, ErrURL
		}
		return redis.NewClusterClient(opts), nil
	}
	opts, err := redis.ParseURL(address)
	if err != nil {
		return nil, ErrURL
	}
	return redis.NewClient(opts), nil
}
