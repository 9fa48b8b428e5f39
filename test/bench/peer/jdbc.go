package peer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/test/bench/measure"
	"github.com/millrace/millrace/test/harness"
)

// JDBCVersion is the version of Debezium's JDBC sink, as test/harness/poms/debezium-jdbc.xml has it.
const JDBCVersion = "3.5.0.Final"

// SinkOptions says what Debezium's JDBC sink is to take, and where to.
type SinkOptions struct {
	// Kafka is host:port of the broker, several separated by commas; Registry is the URL of an Apicurio registry, with its Confluent
	// path or without; Postgres is the postgres:// URL of an empty database. Required.
	Kafka, Registry, Postgres string
	// Dir is a folder for the worker's files, which exists. Required.
	Dir string
	// Topic is full, with N events of one Avro schema; Table is where they go. Required.
	Topic, Table string
	N            int
	// Tasks is the number of tasks; as many as the topic has partitions.
	Tasks int
	// Upsert keeps the newest row of each Key, a field of the value; otherwise every event is inserted.
	Upsert bool
	Key    string
	// Server is the process of Postgres, for its CPU time.
	Server int
}

// SinkResult is what a topic took. CPU times are in seconds for a million events.
type SinkResult struct {
	// EventsPerSecond is from the first offset that the worker has committed to the last one.
	EventsPerSecond float64
	// SecondHalf is the rate over the second half of the events, when most is compiled.
	SecondHalf float64
	// CPU is the worker's between the same instants; ServerCPU that of Postgres, over the whole run.
	CPU, ServerCPU float64
	// PeakMB is the most that the worker had resident.
	PeakMB float64
}

// flushInterval is how often the worker says how far it is, which it does otherwise once a minute.
const flushInterval = 200 * time.Millisecond

// Sink lets Debezium's JDBC sink take a topic into the table SinkOptions.Table, which it makes.
func Sink(ctx context.Context, o SinkOptions, progress func(string)) (result SinkResult, err error) {
	name := fmt.Sprintf("peer-sink-%d", time.Now().UnixNano())
	w, err := newSinkWorker(o, name)
	if err != nil {
		return result, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(o.Kafka, ",")...))
	if err != nil {
		return result, fmt.Errorf("make Kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	server := measure.TreeCPU(o.Server)
	if err := w.start(); err != nil {
		return result, err
	}
	defer w.close()
	var first, half, end moment
	for moved := time.Now(); end.records < o.N; {
		m, err := lookSink(ctx, admin, w, "connect-"+name, o.Topic)
		if err != nil {
			return result, err
		}
		if m.records > end.records {
			if first.records == 0 {
				first = m
			}
			if half.records < o.N/2 {
				half = m
			}
			if m.at.Sub(moved) > 2*time.Second {
				progress(fmt.Sprintf("%d of %d events, %.0f events/s", m.records, o.N, rate(first, m)))
				moved = m.at
			}
			end = m
		}
		if time.Since(max2(end.at, moved)) > stuck {
			return result, fmt.Errorf("the worker stays at %d of %d events; its last output:\n%s", end.records, o.N, lastLines(w.process.Output(), 30))
		}
		if err := pause(ctx, sample); err != nil {
			return result, err
		}
	}
	return SinkResult{
		EventsPerSecond: rate(first, end), SecondHalf: rate(half, end), CPU: cpuOf(first, end),
		ServerCPU: perMillion(measure.TreeCPU(o.Server)-server, o.N), PeakMB: measure.MemoryOf(w.process.PID()).Peak,
	}, nil
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lookSink returns how far the worker's group is. A sink of Kafka Connect commits what it has written.
func lookSink(ctx context.Context, admin *kadm.Client, w *worker, group, topic string) (m moment, err error) {
	if err := w.check(); err != nil {
		return m, err
	}
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return moment{}, nil // there is no group yet
	}
	m.at, m.worker = time.Now(), measure.CPU(w.process.PID())
	for _, o := range offsets[topic] {
		m.records += int(max(o.At, 0))
	}
	return m, nil
}

// newSinkWorker writes the worker's files into a folder of its own.
func newSinkWorker(o SinkOptions, name string) (*worker, error) {
	java, err := harness.Java("debezium")
	if err != nil {
		return nil, err
	}
	classPath, err := harness.DebeziumJDBC()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "connect-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the worker: %w", err)
	}
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	connector, err := o.connector(name)
	if err != nil {
		return nil, err
	}
	files := map[string]map[string]string{"worker.properties": o.worker(dir, port), "connector.properties": connector}
	for file, settings := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(properties(settings)), 0o600); err != nil {
			return nil, fmt.Errorf("write the worker's settings: %w", err)
		}
	}
	args := append(Options{Tuned: true}.jvm(), "-cp", classPath, "org.apache.kafka.connect.cli.ConnectStandalone",
		filepath.Join(dir, "worker.properties"), filepath.Join(dir, "connector.properties"))
	return &worker{command: harness.Command{Path: java, Args: args, Dir: dir, Name: "debezium"}}, nil
}

func (o SinkOptions) worker(dir string, port int) map[string]string {
	// The converter speaks to the registry's own interface, and finds the ids of the Confluent frame there.
	registry := strings.TrimSuffix(o.Registry, "/")
	if i := strings.Index(registry, "/apis/"); i >= 0 {
		registry = registry[:i]
	}
	return map[string]string{
		"bootstrap.servers":                              o.Kafka,
		"key.converter":                                  "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                                "io.apicurio.registry.utils.converter.AvroConverter",
		"value.converter.apicurio.registry.url":          registry + "/apis/registry/v2",
		"value.converter.apicurio.registry.as-confluent": "true",
		"value.converter.apicurio.registry.use-id":       "contentId",
		"offset.storage.file.filename":                   filepath.Join(dir, "offsets.dat"),
		"offset.flush.interval.ms":                       strconv.Itoa(int(flushInterval.Milliseconds())),
		"listeners":                                      fmt.Sprintf("http://127.0.0.1:%d", port),
		"connector.client.config.override.policy":        "All",
	}
}

// connector are the best settings that were found, for each of the two ways of writing.
func (o SinkOptions) connector(name string) (map[string]string, error) {
	db, err := pgx.ParseConfig(o.Postgres)
	if err != nil {
		return nil, errors.New("peer: SinkOptions.Postgres is no connection string")
	}
	all := map[string]string{
		"name":                                   name,
		"connector.class":                        "io.debezium.connector.jdbc.JdbcSinkConnector",
		"tasks.max":                              strconv.Itoa(o.Tasks),
		"topics":                                 o.Topic,
		"connection.url":                         (&url.URL{Scheme: "jdbc:postgresql", Host: fmt.Sprintf("%s:%d", db.Host, db.Port), Path: "/" + db.Database, RawQuery: "reWriteBatchedInserts=true"}).String(),
		"connection.username":                    db.User,
		"connection.password":                    db.Password + "-", // it wants one, and the server asks for none
		"collection.name.format":                 o.Table,
		"schema.evolution":                       "basic",
		"batch.size":                             "5000",
		"consumer.override.max.poll.records":     "5000",
		"dialect.postgres.unnest.insert.enabled": "true",
		"insert.mode":                            "insert",
		"primary.key.mode":                       "none",
	}
	if o.Upsert {
		all["insert.mode"], all["primary.key.mode"], all["primary.key.fields"] = "upsert", "record_value", o.Key
		all["use.reduction.buffer"] = "true"
	}
	return all, nil
}
