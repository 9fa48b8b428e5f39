package e2e

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/test/harness"
)

// The secrets of these tests. Each holds what has to be escaped in a URL, in YAML or in a connection string.
const (
	kafkaSecret    = "s3cret-kafka /'@#\"\\: {x}"
	registrySecret = "s3cret-registry :@/'%41"
	postgresSecret = "s3cret-postgres ?'@#/\\&+"
	wrongSecret    = "s3cret-wrong"
)

// fortress is one server of each kind that takes nobody without a password, over TLS, and the authority that they trust.
type fortress struct {
	authority *harness.Authority
	kafka     *harness.KafkaProcess
	postgres  *harness.PostgresProcess
	db        *harness.PostgresDB
	registry  string // https URL
}

func newFortress(t *testing.T) *fortress {
	t.Helper()
	f := &fortress{authority: harness.NewAuthority(t)}
	upstream := harness.Registry(t)
	f.startKafka(t)
	f.startPostgres(t)
	f.startRegistry(t, upstream)
	return f
}

// startKafka starts a broker with a listener for passwords and one for client certificates.
func (f *fortress) startKafka(t *testing.T) {
	t.Helper()
	cert, key := f.authority.Issue(t, "broker.test")
	identity := filepath.Join(t.TempDir(), "broker.pem")
	var both []byte
	for _, path := range []string{key, cert} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, raw...)
	}
	if err := os.WriteFile(identity, both, 0o600); err != nil {
		t.Fatal(err)
	}
	escaped := strings.NewReplacer(`\`, `\\\\`, `"`, `\\"`).Replace(kafkaSecret) // for JAAS, in a properties file
	scram := "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	f.kafka = harness.KafkaServer(t, harness.KafkaOptions{Listeners: []string{"SASL_SSL", "SSL"}, Settings: map[string]string{
		"ssl.keystore.type": "PEM", "ssl.keystore.location": identity,
		"ssl.truststore.type": "PEM", "ssl.truststore.location": f.authority.File,
		"listener.name.ssl.ssl.client.auth":                     "required",
		"listener.name.sasl_ssl.sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.sasl_ssl.plain.sasl.jaas.config":         fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required user_carrier="%s";`, escaped),
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
	}})
	adm := kadm.NewClient(f.kafka.Client(t))
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		grant(t, adm, m, kafkaSecret)
	}
}

// grant gives the user carrier a password.
func grant(t *testing.T, adm *kadm.Client, mechanism kadm.ScramMechanism, password string) {
	t.Helper()
	res, err := adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "carrier", Mechanism: mechanism, Iterations: 4096, Password: password}})
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatalf("give a Kafka user a password: %v", err)
	}
}

// startPostgres starts a server that takes the user "carrier" with a password and over TLS only.
func (f *fortress) startPostgres(t *testing.T) {
	t.Helper()
	f.postgres = harness.PostgresServer(t, harness.PostgresOptions{})
	f.db = f.postgres.Database(t)
	cert, key := f.authority.IssueElsewhere(t, "localhost")
	owner, err := os.Stat(f.postgres.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	who := owner.Sys().(*syscall.Stat_t)
	for name, from := range map[string]string{"server.crt": cert, "server.key": key} {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(f.postgres.DataDir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(who.Uid), int(who.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	rules := "host all postgres 127.0.0.1/32 trust\nhostssl all carrier 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(f.postgres.DataDir, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	conn := f.db.Conn(t)
	for _, sql := range []string{
		"alter system set ssl = on", "set password_encryption = 'scram-sha-256'",
		"create role carrier login password '" + strings.ReplaceAll(postgresSecret, "'", "''") + "'",
		"select pg_reload_conf()",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "Postgres speaks TLS", func() bool {
		_, err := pgx.Connect(t.Context(), f.dsn("sslmode=require"))
		return err != nil && strings.Contains(err.Error(), "28P01")
	})
}

// dsn names the server with its name in the certificate, without a password.
func (f *fortress) dsn(query string) string {
	return fmt.Sprintf("postgres://carrier@localhost:%d/%s?%s", f.postgres.Port, f.db.Name, query)
}

// startRegistry puts TLS and a password before the shared registry.
func (f *fortress) startRegistry(t *testing.T, upstream string) {
	t.Helper()
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	path := to.Path
	to.Path = ""
	behind := httputil.NewSingleHostReverseProxy(to)
	cert, key := f.authority.IssueElsewhere(t, "registry.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "carrier" || password != registrySecret {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.Header.Del("Authorization")
		behind.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = nil
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	f.registry = server.URL + path
}

// site is a configuration that takes its secrets from files and from the environment, with a database of its own.
func (f *fortress) site(t *testing.T) *site {
	t.Helper()
	f.db = f.postgres.Database(t)
	if _, err := f.db.Conn(t).Exec(t.Context(), "grant create on database "+f.db.Name+" to carrier"); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, map[string]string{
		"KAFKA": f.kafka.Listener["SASL_SSL"], "MECHANISM": "scram-sha-512", "KAFKA_CA": f.authority.File,
		"REGISTRY": f.registry, "REGISTRY_PASSWORD": registrySecret, "REGISTRY_CA": f.authority.File, "REGISTRY_NAME": "registry.test",
		"DATABASE_URL": f.dsn("sslmode=verify-full&sslrootcert=" + f.authority.File), "REDIS": "redis://127.0.0.1:1",
	})
	s.write("secrets/kafka", kafkaSecret+"\n")
	s.write("secrets/postgres", postgresSecret)
	s.write("millrace.yaml", s.own(`
kafka:
  brokers: ["${KAFKA}"]
  tls: {ca: "${KAFKA_CA}"}
  sasl: {mechanism: "${MECHANISM}", username: carrier, password: "${file:secrets/kafka}"}
registry: {url: "${REGISTRY}", username: carrier, password: "${REGISTRY_PASSWORD}", tls: {ca: "${REGISTRY_CA}", server_name: "${REGISTRY_NAME}"}}
schemas: [schemas]
outboxes:
  post:
    postgres: ${DATABASE_URL}
    password: ${file:secrets/postgres}
    topics:
      post.parcels: {partitions: 3}
      post.depots: {partitions: 1}
projections: [projections/*.yaml]
sinks:
  search: {kind: bleve, path: data/search, entities: [parcel, depot]}
http: {listen: "${LISTEN}"}
`))
	return s
}

// with is the site with other values in its environment: name, value pairs.
func (s site) with(values ...string) *site {
	s.env = append([]string(nil), s.env...)
	for i := 0; i+1 < len(values); i += 2 {
		s.env = append(s.env, values[i]+"="+values[i+1])
	}
	return &s
}

// shows fails if a text shows a secret, as it is or escaped.
func shows(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range []string{kafkaSecret, registrySecret, postgresSecret, wrongSecret, "s3cret"} {
		for _, form := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strconv.Quote(secret)} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows a secret:\n%s", what, text)
				return
			}
		}
	}
}

// get is what a path of the running process answers.
func (s *site) get(path string) string {
	resp, err := http.Get("http://" + s.listen + path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// Everything is reached over TLS with a password, the sinks and every command as well as the relay, and nothing shows a secret.
func TestEveryServerOverTLSWithAPassword(t *testing.T) {
	t.Parallel()
	f := newFortress(t)
	t.Run("one day", f.oneDay)
	t.Run("mechanisms", f.mechanisms)
	t.Run("refused", f.refused)
	t.Run("waits", f.waits)
}

func (f *fortress) oneDay(t *testing.T) {
	s := f.site(t)
	var said strings.Builder
	say := func(args ...string) string {
		t.Helper()
		r := s.run(args...)
		said.WriteString(r.stdout + r.stderr)
		if r.code != 0 {
			t.Fatalf("millrace %s: status %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
		}
		return r.stdout
	}
	say("config", "check")
	say("config", "print")
	say("config", "print", "-o", "json")
	say("migrate", "up")
	say("schema", "push")
	say("doctor")
	up := s.start("up", "--log-level", "debug")
	conn := f.db.Conn(t)
	emit(t, conn, "post.ParcelAccepted", accepted("p1", "Bremen"))
	emit(t, conn, "post.DepotOpened", `{"depot_id":"d1","name":"North","city":"Kiel"}`)
	s.waitStatus("both events are published and found", caughtUp(2))
	say("status")
	say("parked", "list")
	say("doctor", "-o", "json")
	say("search", "depot", "city:kiel")
	say("export", s.topic("depots"), "--to", filepath.Join(s.dir, "depots.avro"))
	for _, path := range []string{"/metrics", "/readyz", "/v1/status"} {
		text := s.get(path)
		if text == "" {
			t.Errorf("%s answers nothing", path)
		}
		said.WriteString(text)
	}
	var encrypted bool
	err := conn.QueryRow(t.Context(), `select bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) where a.usename = 'carrier'`).Scan(&encrypted)
	if err != nil || !encrypted {
		t.Errorf("the sessions of the relay are encrypted: %v, %v", encrypted, err)
	}
	if code := up.Stop(t, patience); code != 0 {
		t.Errorf("up ended with %d", code)
	}
	shows(t, "a command", said.String())
	shows(t, "the log", up.Output())
}

// Each mechanism, and a client certificate instead of a password.
func (f *fortress) mechanisms(t *testing.T) {
	s := f.site(t)
	s.setUp()
	for _, m := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		s.with("MECHANISM", m).ok("status")
	}
	cert, key := f.authority.Issue(t, "carrier")
	s.edit("millrace.yaml", `tls: {ca: "${KAFKA_CA}"}`, fmt.Sprintf(`tls: {ca: "${KAFKA_CA}", cert: %q, key: %q}`, cert, key))
	s.edit("millrace.yaml", `sasl: {mechanism: "${MECHANISM}", username: carrier, password: "${file:secrets/kafka}"}`, "sasl: {}")
	s.with("KAFKA", f.kafka.Listener["SSL"]).ok("status")
}

// What is refused is told with what to do about it.
func (f *fortress) refused(t *testing.T) {
	s := f.site(t)
	s.setUp()
	other := harness.NewAuthority(t).File
	const trusted = `tls: {ca: "${KAFKA_CA}"}`
	plain := f.dsn("sslmode=disable")
	for _, c := range []struct {
		name     string
		command  string // default: status
		values   []string
		old, new string
		want     []string
	}{
		{name: "Kafka: wrong password", values: []string{}, old: `"${file:secrets/kafka}"`, new: wrongSecret, want: []string{"look at kafka.sasl"}},
		{name: "Kafka: wrong password, plain", values: []string{"MECHANISM", "plain"}, old: `"${file:secrets/kafka}"`, new: wrongSecret, want: []string{"look at kafka.sasl"}},
		{name: "Kafka: wrong authority", values: []string{"KAFKA_CA", other}, want: []string{"kafka.tls.ca"}},
		{name: "Kafka: another name", old: trusted, new: `tls: {ca: "${KAFKA_CA}", server_name: elsewhere.test}`, want: []string{"kafka.tls.server_name"}},
		{name: "Kafka: plain text to a TLS port", old: trusted, new: `tls: {}`, want: []string{"look at kafka.tls"}},
		{name: "Kafka: TLS to a plain port", values: []string{"KAFKA", f.kafka.Brokers[0]}, want: []string{"kafka.tls"}},
		{name: "Kafka: no credentials", old: `sasl: {mechanism: "${MECHANISM}", username: carrier, password: "${file:secrets/kafka}"}`, new: "sasl: {}", want: []string{"kafka.sasl"}},
		{name: "Kafka: credentials nobody asks for", values: []string{"KAFKA", f.kafka.Brokers[0]}, old: trusted, new: "tls: {}", want: []string{"kafka.sasl"}},
		{name: "Kafka: no client certificate", values: []string{"KAFKA", f.kafka.Listener["SSL"]}, want: []string{"client certificate"}},
		{name: "Postgres: wrong password", old: "${file:secrets/postgres}", new: wrongSecret, want: []string{"28P01", "outboxes." + s.name + ".password"}},
		{name: "Postgres: wrong authority", values: []string{"DATABASE_URL", f.dsn("sslmode=verify-full&sslrootcert=" + other)}, want: []string{"sslrootcert=FILE"}},
		{name: "Postgres: another name", values: []string{"DATABASE_URL", strings.Replace(f.dsn("sslmode=verify-full&sslrootcert="+f.authority.File), "localhost", "127.0.0.1", 1)},
			want: []string{"name that is in the server's certificate"}},
		{name: "Postgres: plain text where TLS is wanted", values: []string{"DATABASE_URL", plain}, want: []string{"sslmode=verify-full"}},
		{name: "registry: wrong password", command: "doctor", values: []string{"REGISTRY_PASSWORD", wrongSecret}, want: []string{"registry.password", "1 error"}},
		{name: "registry: wrong authority", command: "doctor", values: []string{"REGISTRY_CA", other}, want: []string{"registry.tls.ca", "1 error"}},
		{name: "Postgres and Kafka: wrong passwords", command: "doctor", values: []string{"DATABASE_URL", plain}, old: `"${file:secrets/kafka}"`, new: wrongSecret,
			want: []string{"look at kafka.sasl", "sslmode=verify-full", "the compatibility level of the registry is BACKWARD", "2 errors"}},
	} {
		before, err := os.ReadFile(filepath.Join(s.dir, "millrace.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if c.old != "" {
			s.edit("millrace.yaml", c.old, c.new)
		}
		r := s.with(c.values...).run(cmp.Or(c.command, "status"))
		s.write("millrace.yaml", string(before))
		if r.code != 1 {
			t.Errorf("%s: status %d", c.name, r.code)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stdout+r.stderr, want) {
				t.Errorf("%s: %q is not said:\n%s%s", c.name, want, r.stdout, r.stderr)
			}
		}
		shows(t, c.name, r.stdout+r.stderr)
		t.Logf("%s:\n%s%s", c.name, r.stdout, r.stderr)
	}
}

// A relay and a sink that are refused say so in their log and to a readiness probe, and go on by themselves when they are let in.
func (f *fortress) waits(t *testing.T) {
	s := f.site(t)
	s.setUp()
	emit(t, f.db.Conn(t), "post.DepotOpened", `{"depot_id":"d1","name":"North","city":"Kiel"}`)
	adm := kadm.NewClient(f.kafka.Client(t))
	grant(t, adm, kadm.ScramSha512, wrongSecret)
	up := s.start("up")
	eventually(t, "both say why they are not ready", func() bool {
		return strings.Count(s.get("/readyz"), "look at kafka.sasl") == 2
	})
	up.WaitLine(t, "look at kafka.sasl", patience)
	said := s.get("/readyz") + s.get("/v1/status") + s.get("/metrics")
	if n := strings.Count(up.Output(), "\n"); n > 12 {
		t.Errorf("%d lines of waiting:\n%s", n, up.Output())
	}
	grant(t, adm, kadm.ScramSha512, kafkaSecret)
	s.waitStatus("the event is published and found", caughtUp(1))
	up.Stop(t, patience)
	shows(t, "the process", said+up.Output())
	t.Logf("its log:\n%s", up.Output())
}
