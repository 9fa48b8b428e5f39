package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/millrace/millrace/test/harness"
)

// worker is a standalone worker of Kafka Connect with one connector. It may be started again, with the offsets it has
// written down.
type worker struct {
	command harness.Command
	process *harness.Process
}

// newWorker writes the worker's files into a folder of its own.
func newWorker(o Options, b *outbox, topic string) (*worker, error) {
	java, err := harness.Java("debezium")
	if err != nil {
		return nil, err
	}
	classPath, err := harness.Debezium()
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
	files := []struct{ name, text string }{
		{filepath.Join(dir, "worker.properties"), o.worker(dir, port)},
		{filepath.Join(dir, "connector.properties"), o.connector(b.config, b.name, topic)},
	}
	args := append(o.jvm(), "-cp", classPath, "org.apache.kafka.connect.cli.ConnectStandalone")
	for _, f := range files {
		if err := os.WriteFile(f.name, []byte(f.text), 0o600); err != nil {
			return nil, fmt.Errorf("write the worker's settings: %w", err)
		}
		args = append(args, f.name)
	}
	return &worker{command: harness.Command{Path: java, Args: args, Dir: dir, Name: "debezium"}}, nil
}

func (w *worker) start() error {
	p, err := harness.StartProcess(w.command)
	if err != nil {
		return err
	}
	w.process = p
	return nil
}

// check returns an error if the worker has ended or given up.
func (w *worker) check() error {
	switch output := w.process.Output(); {
	case !w.process.Running():
		return fmt.Errorf("the worker has ended; its last output:\n%s", lastLines(output, 30))
	case strings.Contains(output, "unrecoverable exception"), strings.Contains(output, "Failed to create connector"):
		return fmt.Errorf("the connector has given up; the worker's last output:\n%s", lastLines(output, 30))
	}
	return nil
}

// kill is kill -9.
func (w *worker) kill() { w.process.End(syscall.SIGKILL) }

// close ends a worker whose state nobody needs.
func (w *worker) close() {
	if w != nil && w.process != nil {
		w.kill()
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
