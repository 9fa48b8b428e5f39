package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readerRequirements are what an independent reader of the topics needs.
var readerRequirements = []string{"confluent-kafka[avro,schemaregistry]==2.16.0"}

// Python returns the interpreter of a virtual environment that has Confluent's Python client with its Avro deserializer.
func Python(t testing.TB) string {
	t.Helper()
	dir, err := fetched("python-confluent-kafka-2.16.0", func(dir string) error {
		if err := run("python3", "-m", "venv", dir); err != nil {
			return &MissingError{Part: "python3 with venv", Reason: err.Error(), Install: "apt-get install python3-venv"}
		}
		args := append([]string{"-q", "install"}, readerRequirements...)
		if err := run(filepath.Join(dir, "bin", "pip"), args...); err != nil {
			return &MissingError{Part: "confluent-kafka for Python", Reason: err.Error(), Install: "pip install '" + readerRequirements[0] + "'"}
		}
		return nil
	})
	must(t, err)
	return filepath.Join(dir, "bin", "python3")
}

// SourceArchive returns the source archive of a Python package as it is published, fetched once.
func SourceArchive(t testing.TB, name, version string) string {
	t.Helper()
	dir, err := fetched(name+"-"+version, func(dir string) error {
		err := run("python3", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", dir, name+"=="+version)
		if err != nil {
			return &MissingError{Part: name + " " + version, Reason: err.Error(), Install: "apt-get install python3-pip"}
		}
		return nil
	})
	must(t, err)
	return filepath.Join(dir, name+"-"+version+".tar.gz")
}

func fetched(name string, fill func(dir string) error) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	return cached(cache, name, fill)
}

func run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PIP_DISABLE_PIP_VERSION_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%s: %w: %s", name, err, lines[len(lines)-1])
}
