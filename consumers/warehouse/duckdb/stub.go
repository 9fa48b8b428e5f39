//go:build !cgo

package duckdb

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/warehouse"
	"github.com/millrace/millrace/consumers/warehouse/gold"
)

// Warehouse stands for the warehouse in a program that was built without cgo. There is none to be had.
type Warehouse struct{}

// Open fails: it returns ErrNoCgo, marked systemic.
func Open(Config) (*Warehouse, error) { return nil, consumers.AsSystemic(ErrNoCgo) }

// Claim returns ErrNoCgo.
func (*Warehouse) Claim(context.Context, consumers.TopicPartition) (fold.Claim, error) {
	return fold.Claim{}, consumers.AsSystemic(ErrNoCgo)
}

// Load returns ErrNoCgo.
func (*Warehouse) Load(context.Context, string, []string) (map[string]fold.Stored, error) {
	return nil, consumers.AsSystemic(ErrNoCgo)
}

// Commit returns ErrNoCgo.
func (*Warehouse) Commit(context.Context, fold.Commit) error { return consumers.AsSystemic(ErrNoCgo) }

// Positions returns ErrNoCgo.
func (*Warehouse) Positions(context.Context) (map[consumers.TopicPartition]int64, error) {
	return nil, consumers.AsSystemic(ErrNoCgo)
}

// ReadsEvents returns false.
func (*Warehouse) ReadsEvents() bool { return false }

// Query returns ErrNoCgo.
func (*Warehouse) Query(context.Context, string, warehouse.Limits) (*warehouse.Result, error) {
	return nil, ErrNoCgo
}

// Snapshot returns ErrNoCgo.
func (*Warehouse) Snapshot(context.Context) (fold.Snapshot, error) {
	return nil, consumers.AsSystemic(ErrNoCgo)
}

// Records returns ErrNoCgo.
func (*Warehouse) Records(context.Context, consumers.TopicPartition, int64, int64, func(*kgo.Record) error) error {
	return consumers.AsSystemic(ErrNoCgo)
}

// Kept returns ErrNoCgo.
func (*Warehouse) Kept(context.Context) (map[consumers.TopicPartition]fold.Kept, error) {
	return nil, consumers.AsSystemic(ErrNoCgo)
}

// Serve returns ErrNoCgo.
func (*Warehouse) Serve(context.Context) error { return consumers.AsSystemic(ErrNoCgo) }

// Remove returns ErrNoCgo.
func (*Warehouse) Remove(context.Context) error { return consumers.AsSystemic(ErrNoCgo) }

// Gold returns ErrNoCgo.
func (*Warehouse) Gold() (gold.Engine, error) { return nil, consumers.AsSystemic(ErrNoCgo) }

// Close does nothing.
func (*Warehouse) Close() error { return nil }
