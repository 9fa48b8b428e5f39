package peer

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// connector settings without which there is nothing to compare. Everything else is Debezium's default.
var connectorSettings = map[string]string{
	"connector.class":                         "io.debezium.connector.postgresql.PostgresConnector",
	"tasks.max":                               "1",
	"plugin.name":                             "pgoutput",
	"topic.prefix":                            "peer",
	"table.include.list":                      "public.outbox",
	"publication.autocreate.mode":             "disabled",
	"snapshot.mode":                           "no_data",
	"tombstones.on.delete":                    "false",
	"transforms":                              "outbox",
	"transforms.outbox.type":                  "io.debezium.transforms.outbox.EventRouter",
	"transforms.outbox.table.field.event.key": "aggregateid",
}

// tunedSettings are the best known for throughput and latency alike on two cores.
var tunedSettings = map[string]string{
	"max.batch.size":                                          "16384",
	"max.queue.size":                                          "65536",
	"poll.interval.ms":                                        "10",
	"producer.override.linger.ms":                             "5",
	"producer.override.batch.size":                            "262144",
	"producer.override.buffer.memory":                         "134217728",
	"producer.override.compression.type":                      "lz4",
	"producer.override.max.in.flight.requests.per.connection": "5",
	"producer.override.acks":                                  "all",
	"extended.headers.enabled":                                "false",
	"statistics.metrics.enabled":                              "false",
}

// LowestLatency are Extra settings for whoever wants the lowest latency at any cost in CPU time; on top of Tuned.
var LowestLatency = map[string]string{
	"poll.interval.ms":            "1",
	"producer.override.linger.ms": "0",
}

// Settings returns the settings of the connector that Options choose, without addresses, names and passwords.
func (o Options) Settings() map[string]string {
	all := maps.Clone(connectorSettings)
	if o.Tuned {
		maps.Copy(all, tunedSettings)
	}
	maps.Copy(all, o.Extra)
	return all
}

// connector returns the connector's properties file.
func (o Options) connector(db *pgx.ConnConfig, slot, topic string) string {
	all := o.Settings()
	all["name"] = slot
	all["database.hostname"] = db.Host
	all["database.port"] = strconv.Itoa(int(db.Port))
	all["database.user"] = db.User
	all["database.password"] = db.Password
	all["database.dbname"] = db.Database
	all["publication.name"] = slot
	all["slot.name"] = slot
	all["transforms.outbox.route.topic.replacement"] = topic
	return properties(all)
}

// worker returns the properties file of the worker. The payload is handed on as the bytes it is.
func (o Options) worker(dir string, port int) string {
	return properties(map[string]string{
		"bootstrap.servers":                       o.Kafka,
		"key.converter":                           "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                         "org.apache.kafka.connect.converters.ByteArrayConverter",
		"offset.storage.file.filename":            filepath.Join(dir, "offsets.dat"),
		"listeners":                               fmt.Sprintf("http://127.0.0.1:%d", port),
		"connector.client.config.override.policy": "All",
	})
}

// jvm returns the options of the virtual machine.
func (o Options) jvm() []string {
	collector := "-XX:+UseG1GC"
	if o.Tuned {
		collector = "-XX:+UseParallelGC"
	}
	return []string{"-Xms1g", "-Xmx1g", collector, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}
}

var propertyEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`)

func properties(all map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", name, propertyEscapes.Replace(all[name]))
	}
	return text.String()
}
