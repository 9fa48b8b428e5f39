package harness

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What a program that is no test, such as a benchmark, uses of this package. Errors are returned; a part that is not on
// the machine is a *MissingError. The program calls Cleanup at its end.

// StartProcess starts a command. End ends it; it also ends when this process does.
func StartProcess(c Command) (*Process, error) { return start(c) }

// End sends sig and waits for the end of the process; what has not ended after 20 s is killed.
func (p *Process) End(sig syscall.Signal) { p.end(sig) }

// StartPostgres starts a server for the program. Close stops it.
func StartPostgres(o PostgresOptions) (*PostgresProcess, error) { return startPostgres(o) }

// Close stops the server and removes its data.
func (s *PostgresProcess) Close() {
	s.stop()
	if !keepData() {
		os.RemoveAll(filepath.Dir(s.DataDir))
	}
}

// StartKafka starts a broker for the program. Close stops it.
func StartKafka(o KafkaOptions) (*KafkaProcess, error) { return startKafka(o) }

// Close stops the broker and removes its data.
func (s *KafkaProcess) Close() {
	s.discard()
	if !keepData() {
		os.RemoveAll(filepath.Dir(s.DataDir))
	}
}

// Cleanup stops the shared servers and removes what this process has left on the disk. Private servers are closed before.
func Cleanup() { stopAll() }

// WorkDir returns a new folder that Cleanup removes; if the process is killed, a later one sweeps it.
func WorkDir(name string) (string, error) { return workDir(name) }

// Java returns the path of a Java runtime; part is who needs it, for the error.
func Java(part string) (string, error) { return java(part) }

// Debezium returns the class path of a Kafka Connect worker with the Debezium connector for PostgreSQL; the versions are in poms/debezium.xml.
// It is fetched from Maven Central on first use. The error is a *MissingError where that cannot be done.
func Debezium() (classPath string, err error) {
	folder, err := mavenFolder("debezium")
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "libs", "*"), nil
}

// DebeziumJDBC is Debezium for its JDBC sink, with a converter for Avro; the versions are in poms/debezium-jdbc.xml.
func DebeziumJDBC() (classPath string, err error) {
	folder, err := mavenFolder("debezium-jdbc")
	if err != nil {
		return "", err
	}
	return filepath.Join(folder, "libs", "*"), nil
}

// StartRegistry starts a schema registry for the program. Close stops it.
func StartRegistry() (*RegistryProcess, error) { return startRegistry() }

// PID returns the registry's process id.
func (s *RegistryProcess) PID() int { return s.process.PID() }

// Close stops the registry.
func (s *RegistryProcess) Close() { s.process.end(syscall.SIGKILL) }

// BuiltBinary returns the path of the millrace binary: the one that BinaryEnv names, or else one built from this tree.
func BuiltBinary() (string, error) {
	if path := os.Getenv(BinaryEnv); path != "" {
		return filepath.Abs(path)
	}
	return binary()
}

// Version returns the version of Apache Kafka.
func (s *KafkaProcess) Version() string {
	const name = "kafka-server-"
	for _, jar := range glob(filepath.Join(filepath.Dir(s.libs), name+"[0-9]*.jar")) {
		return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jar), name), ".jar")
	}
	return "unknown"
}

// Version returns the registry's name and version.
func (s *RegistryProcess) Version() string {
	return "apicurio " + strings.TrimSuffix(strings.TrimPrefix(registryJar, "apicurio-registry-app-"), "-runner.jar")
}

func glob(pattern string) []string {
	found, _ := filepath.Glob(pattern) // the pattern is ours
	return found
}
