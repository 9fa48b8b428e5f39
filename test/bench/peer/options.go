package peer

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The versions that are measured, as test/harness/poms/debezium.xml has them.
const (
	DebeziumVersion = "3.7.0.Final"
	ConnectVersion  = "4.3.1"
)

// Options says what to run and where.
type Options struct {
	// Kafka is host:port of the broker, several separated by commas. Required.
	Kafka string
	// Postgres is the postgres:// URL of a superuser on a server with wal_level=logical. Required.
	Postgres string
	// Dir is a folder for the worker's files, which exists. Required.
	Dir string
	// N is the number of events: the backlog of Drain and Kill; default 1,000,000. Below about a million the
	// compiler of the JVM is still at work for most of the run.
	N int
	// Transaction is how many events of the backlog are in one transaction; default 0: 1 to 10, in turn, as applications
	// write them.
	Transaction int
	// Tuned takes the best settings known instead of the defaults, see Settings.
	Tuned bool
	// Extra are settings of the connector that are added to those, or replace them.
	Extra map[string]string
	// Label names the settings in results and progress; default "tuned" or "default".
	Label string
	// Partitions of the topic; default 4.
	Partitions int
	// Rate is how many events per second Latency writes; default 500.
	Rate int
	// Duration is how long Latency measures; default 30 s.
	Duration time.Duration
	// WarmUp is the number of events that Latency sends through the worker as a backlog before it measures, so that
	// the JVM has compiled what it runs; default 100,000.
	WarmUp int
	// Payload returns the payload of event n, counted from 0, as it shall stand in the record's value; called by one goroutine.
	// Default: an order of about 300 bytes, Avro behind a Confluent frame.
	Payload func(n int) []byte
}

func (o Options) withDefaults() Options {
	if o.N == 0 {
		o.N = 1_000_000
	}
	if o.Partitions == 0 {
		o.Partitions = 4
	}
	if o.Rate == 0 {
		o.Rate = 500
	}
	if o.Duration == 0 {
		o.Duration = 30 * time.Second
	}
	if o.WarmUp == 0 {
		o.WarmUp = 100_000
	}
	if o.Payload == nil {
		o.Payload = Payload
	}
	if o.Label == "" {
		o.Label = map[bool]string{true: "tuned", false: "default"}[o.Tuned]
	}
	return o
}

func (o Options) validate() error {
	switch {
	case o.Kafka == "":
		return errors.New("peer: Options.Kafka is empty")
	case o.Postgres == "":
		return errors.New("peer: Options.Postgres is empty")
	case o.Dir == "":
		return errors.New("peer: Options.Dir is empty")
	case o.N < 2:
		return fmt.Errorf("peer: Options.N is %d, of 2 or more", o.N)
	case o.Transaction < 0:
		return fmt.Errorf("peer: Options.Transaction is %d, of 0 or more", o.Transaction)
	case o.Partitions < 1:
		return fmt.Errorf("peer: Options.Partitions is %d, of 1 or more", o.Partitions)
	case o.Rate < 1:
		return fmt.Errorf("peer: Options.Rate is %d, of 1 or more", o.Rate)
	case o.Duration < time.Second:
		return fmt.Errorf("peer: Options.Duration is %v, of 1 s or more", o.Duration)
	case o.WarmUp < 1:
		return fmt.Errorf("peer: Options.WarmUp is %d, of 1 or more", o.WarmUp)
	}
	return nil
}

func (o Options) brokers() []string { return strings.Split(o.Kafka, ",") }
