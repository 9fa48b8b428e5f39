package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/test/bench/peer"
)

// drainPeer drains the same backlog through Debezium, with the best settings known, if that is asked for. rate is the relay's in
// the same repetition.
func (r *rig) drainPeer(ctx context.Context, n int64, rate float64) error {
	if !r.opts.Peer {
		return nil
	}
	r.sites++
	dir := filepath.Join(r.dir, fmt.Sprintf("peer_%d", r.sites))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	got, err := peer.Drain(ctx, peer.Options{
		Kafka: strings.Join(r.kafka.Brokers, ","), Postgres: r.postgres.DSN, Dir: dir,
		N: int(n), Tuned: true, Partitions: r.opts.Partitions, Payload: r.peerPayload,
	}, func(line string) { r.say("Debezium: %s", line) })
	if err != nil {
		return fmt.Errorf("drain through Debezium: %w", err)
	}
	r.report.Versions["debezium"], r.report.Versions["kafka connect"] = peer.DebeziumVersion, peer.ConnectVersion
	c := r.report.in("drain " + thousands(n))
	c.row("times Debezium's best setting", "", rate/got.EventsPerSecond, atLeast(5))
	c.row("Debezium: events a second", "1/s", got.EventsPerSecond)
	c.row("Debezium: over its second half", "1/s", got.SecondHalf)
	c.row("Debezium: CPU per million events", "s", got.CPU)
	c.row("Debezium: process start to first event", "s", got.FirstEvent)
	c.row("Debezium: peak resident", "MiB", float64(got.PeakMB))
	r.say("Debezium: %s events/s; the relay is %.1f times as fast", thousands(int64(got.EventsPerSecond)), rate/got.EventsPerSecond)
	return nil
}

// peerPayload is the value of event n, framed as the relay frames it.
func (r *rig) peerPayload(n int) []byte {
	return r.maker.append(avro.AppendFrame(nil, 1), int64(n), 0)
}
