package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// paper is a site whose servers need not exist.
func paper(t *testing.T) *site {
	return newSite(t, map[string]string{
		"KAFKA": "127.0.0.1:9092", "REGISTRY": "http://127.0.0.1:8081", "REDIS": "redis://127.0.0.1:6379",
		"DATABASE_URL": "postgres://me@127.0.0.1:5432/post",
	})
}

// A wrong configuration gets one line that names file, line and key, and exit status 2; before anything is started.
func TestAMistakeInTheConfigurationIsOneLineWithItsPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, old, text string
		want                  string // after "millrace: "
	}{
		{"an unknown key", "millrace.yaml", "registry: {url", "registry: {uri", `millrace.yaml:2: registry.uri: unknown key`},
		{"an unknown part", "millrace.yaml", "\nhttp:", "\nhtpp:", `millrace.yaml:19: htpp: unknown key`},
		{"a key twice", "millrace.yaml", "\nhttp:", "\nschemas: [other]\nhttp:", `millrace.yaml:19: mapping key "schemas" already defined at [3:1]`},
		{"a variable that is not set", "millrace.yaml", "${DATABASE_URL}", "${DATABASE_URI}", `millrace.yaml:7: outboxes.NAME.postgres: environment variable DATABASE_URI is not set (set it, or write ${DATABASE_URI:-default})`},
		{"a duration without a unit", "millrace.yaml", "retention: forever", "retention: 7", `millrace.yaml:9: outboxes.NAME.topics.NAME.parcels.retention: "7" is no duration: write for example 500ms, 30s, 12h, 7d or forever`},
		{"a number that is none", "millrace.yaml", "partitions: 3", "partitions: many", `millrace.yaml:9: outboxes.NAME.topics.NAME.parcels.partitions: string where int is wanted`},
		{"a number out of bounds", "millrace.yaml", "partitions: 3", "partitions: -3", `millrace.yaml:9: outboxes.NAME.topics.NAME.parcels.partitions: -3 is outside 1..10000`},
		{"an unknown kind of sink", "millrace.yaml", "kind: bleve", "kind: lucene", `millrace.yaml:16: sinks.NAME-search.kind: "lucene" is none of bleve, duckdb, opensearch, postgres, redis, webhook`},
		{"no kind of sink", "millrace.yaml", "kind: bleve, ", "", `millrace.yaml:16: sinks.NAME-search.kind: is missing: one of bleve, duckdb, opensearch, postgres, redis, webhook`},
		{"no path", "millrace.yaml", "path: data/search, ", "", `millrace.yaml:16: sinks.NAME-search.path: is missing: where bleve keeps its data`},
		{"a path twice", "millrace.yaml", "data/search", "data/warehouse.duckdb", `millrace.yaml:15: sinks.NAME-warehouse.path: is that of sink NAME-search already`},
		{"an unknown entity", "millrace.yaml", "entities: [parcel]", "entities: [parcels]", `millrace.yaml:16: sinks.NAME-search.entities: no projection declares entity "parcels"`},
		{"topics where entities are wanted", "millrace.yaml", "entities: [parcel]}", "topics: [x]}", `millrace.yaml:16: sinks.NAME-search.topics: are for sinks that keep events; a search sink follows the topics of its entities`},
		{"no such folder of schemas", "millrace.yaml", "schemas: [schemas]", "schemas: [schema]", `millrace.yaml:3: schemas.0: there is no folder schema`},
		{"no such projection", "millrace.yaml", "projections/*", "projection/*", `millrace.yaml:12: projections.0: there is no file projection/*.yaml`},
		{"no broker", "millrace.yaml", `{brokers: ["${KAFKA}"]}`, "{}", `millrace.yaml:1: kafka.brokers: is missing: host:port of at least one broker`},
		{"an unknown mechanism", "millrace.yaml", "kafka: {", "kafka: {sasl: {mechanism: md5}, ", `millrace.yaml:1: kafka.sasl.mechanism: "md5" is none of plain, scram-sha-256, scram-sha-512`},
		{"no such certificate", "millrace.yaml", "kafka: {", "kafka: {tls: {ca: nope.pem}, ", `millrace.yaml:1: kafka.tls.ca: read the authorities: open nope.pem: no such file or directory`},
		{"a database URL that is none", "millrace.yaml", "${DATABASE_URL}", `"postgres://me:s3cret@h:port/x"`, `millrace.yaml:7: outboxes.NAME.postgres: "postgres://me:xxxxx@h:port/x" is no connection string such as postgres://user:password@host:5432/database`},
		{"a registry URL that is none", "millrace.yaml", "${REGISTRY}", "me:s3cret@registry:8081", `millrace.yaml:2: registry: url: not a URL such as "http://localhost:8081"`},
		{"a Redis URL that is none", "millrace.yaml", "${REDIS}", "redis://:s3cret@h:port", `millrace.yaml:17: sinks.NAME-cache.url: the URL is not understood; write redis://user:password@host:port/database`},
		{"an address that is none", "millrace.yaml", "${LISTEN}", "8088", `millrace.yaml:19: http.listen: "8088" is not host:port, such as 127.0.0.1:8088`},
		{"broken YAML", "millrace.yaml", "schemas: [schemas]", "schemas: [schemas", `millrace.yaml:5: ',' or ']' must be specified`},

		{"an unknown field of an event", "projections/parcel.yaml", "event.depot}", "event.depo}", `millrace.yaml:12: projections: projections/parcel.yaml:13:38: on post.ParcelMoved: set depot: post.ParcelMoved has no field "depo"; its fields are parcel_id, depot, moved_at`},
		{"an unknown event", "projections/parcel.yaml", "post.ParcelMoved", "post.ParcelMovd", `millrace.yaml:12: projections: projections/parcel.yaml:12:3: on post.ParcelMovd: there is no schema of this name; of topic NAME.parcels there are post.ParcelAccepted, post.ParcelDelivered, post.ParcelMoved`},
		{"an unknown key of a projection", "projections/parcel.yaml", "entity:", "entitty:", `millrace.yaml:12: projections: projections/parcel.yaml:1:1: projection: key "entitty" is unknown; there are cache, columns, entity, on, search, topic`},
		{"another topic", "projections/parcel.yaml", ".parcels", ".parcel", `millrace.yaml:12: projections: projections/parcel.yaml:4:3: on post.ParcelAccepted: its schema sends it to topic NAME.parcels; this projection follows NAME.parcel`},
		{"an entity twice", "projections/depot.yaml", "entity: depot", "entity: parcel", `millrace.yaml:12: projections: projections/parcel.yaml: entity parcel is declared in projections/depot.yaml already`},
		{"an unknown type in a schema", "schemas/ParcelAccepted.avsc", "post.Address", "post.Adress", `millrace.yaml:3: schemas.0: schemas/ParcelAccepted.avsc:10: post.ParcelAccepted: field to: unknown type post.Adress`},
		{"a key field that is not there", "schemas/ParcelAccepted.avsc", `millrace.key": "parcel_id`, `millrace.key": "parcel`, `millrace.yaml:3: schemas.0: schemas/ParcelAccepted.avsc:7: post.ParcelAccepted: millrace.key names the field "parcel", which the record does not have`},
		{"broken JSON in a schema", "schemas/ParcelAccepted.avsc", `"type": "int"},`, `"type": "int"}`, `millrace.yaml:3: schemas.0: schemas/ParcelAccepted.avsc:12: not JSON: invalid character '{' after array element`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := paper(t)
			s.edit(c.file, c.old, c.text)
			want := "millrace: " + strings.ReplaceAll(c.want, "NAME", s.name) + "\n"
			if got := s.fails(2, "config", "check"); got != want {
				t.Errorf("config check says\n%swant\n%s", got, want)
			}
			r := s.run("up")
			if r.code != 2 || r.stderr != want {
				t.Errorf("up ends with %d and says\n%s", r.code, r.stderr)
			}
		})
	}
	s := paper(t)
	if got := s.fails(2, "-c", "nope.yaml", "status"); got != "millrace: nope.yaml: no such file or directory\n" {
		t.Errorf("no such file: %s", got)
	}
}

// What `config print` prints is a configuration, without the secrets and otherwise the same.
func TestConfigPrintIsAConfigurationWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := paper(t)
	s.edit("millrace.yaml", "kafka: {", "kafka: {sasl: {mechanism: plain, username: me, password: s3cret-kafka}, ")
	s.edit("millrace.yaml", `registry: {url: "${REGISTRY}"}`, `registry: {url: "http://me:s3cret-url@127.0.0.1:8081", username: me, password: "${REGISTRY_PASSWORD}"}`)
	s.edit("millrace.yaml", "    postgres: ${DATABASE_URL}", `    postgres: "host=127.0.0.1 user=me password='s3cret dsn' dbname=post"`)
	s.edit("millrace.yaml", "\nprojections:", "\n  other: {postgres: \"${DATABASE_URL}\"}\n\nprojections:")
	s.env = append(s.env, "REGISTRY_PASSWORD=s3cret-registry", "DATABASE_URL=postgres://me:s3cret-postgres@127.0.0.1:5432/post?sslmode=disable",
		"REDIS=redis://:s3cret-redis@127.0.0.1:6379/2")
	yaml, json := s.ok("config", "print"), s.ok("config", "print", "-o", "json")
	for _, text := range []string{yaml, json} {
		if strings.Contains(text, "s3cret") || strings.Count(text, "xxxxx") != 6 {
			t.Errorf("not hidden, or not all:\n%s", text)
		}
	}
	golden(t, "config-print", yaml)

	s.write("printed.yaml", yaml)
	if again := s.ok("-c", "printed.yaml", "config", "print"); again != yaml {
		t.Errorf("what is printed is read as\n%s", again)
	}
	s.ok("-c", "printed.yaml", "config", "check")

	// Paths are those of the file's folder, wherever the command runs.
	elsewhere := &site{t: t, dir: t.TempDir(), env: s.env, name: s.name}
	elsewhere.ok("-c", filepath.Join(s.dir, "millrace.yaml"), "config", "check")
	elsewhere.env = append(elsewhere.env, "MILLRACE_CONFIG="+filepath.Join(s.dir, "millrace.yaml"))
	elsewhere.ok("config", "check")
}

// The sketch of DESIGN, section 4, is a configuration that is understood.
func TestTheDocumentedShapeIsUnderstood(t *testing.T) {
	t.Parallel()
	s := paper(t)
	s.env = append(s.env, "KAFKA_PASSWORD=hush")
	s.edit("millrace.yaml", "    topics:\n", "    retention: 7d\n    topics:\n")
	s.ok("config", "check")
	if got := s.ok("config", "print"); !strings.Contains(got, "age: 7d") {
		t.Errorf("%s", got)
	}
	for _, readme := range []string{"README.md"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", readme))
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(raw), -1) {
			if !strings.Contains(block[1], "outboxes:") {
				continue
			}
			name := fmt.Sprintf("readme-%d.yaml", i)
			s.write("secret", "hush")
			text := regexp.MustCompile(`/run/secrets/\w+`).ReplaceAllString(block[1], "secret")
			text = regexp.MustCompile(`\{ca: ca.pem[^}]*\}|&sslrootcert=ca.pem`).ReplaceAllString(text, "") // files that a reader has
			s.write(name, text)
			if r := s.run("-c", name, "config", "print"); r.code != 0 {
				t.Errorf("%s, block %d: %s\n%s", readme, i, r.stderr, block[1])
			}
		}
	}
}
