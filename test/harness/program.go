package harness

import (
	"os"
	"path/filepath"
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
