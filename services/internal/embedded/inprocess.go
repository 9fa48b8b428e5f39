package embedded

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Kafka is an in-process broker on franz-go's kfake. It keeps everything in memory and is for trying out: it is faster than
// a real broker at small transactions and proves nothing about one.
type Kafka struct {
	// Brokers are its addresses on 127.0.0.1; other processes of this machine can connect.
	Brokers []string
	cluster *kfake.Cluster
}

// StartKafka starts the broker on a free port.
func StartKafka() (*Kafka, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return nil, fmt.Errorf("start the in-process Kafka broker: %w", err)
	}
	return &Kafka{Brokers: c.ListenAddrs(), cluster: c}, nil
}

// Stop ends the broker; what it held is gone.
func (k *Kafka) Stop() { k.cluster.Close() }

// Redis is an in-process, Redis-compatible server on miniredis, for trying out.
type Redis struct {
	// URL connects to it; other processes of this machine can connect.
	URL    string
	server *miniredis.Miniredis
}

// StartRedis starts the server on a free port.
func StartRedis() (*Redis, error) {
	s, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the in-process Redis: %w", err)
	}
	return &Redis{URL: "redis://" + s.Addr(), server: s}, nil
}

// Stop ends the server; what it held is gone.
func (r *Redis) Stop() { r.server.Close() }
