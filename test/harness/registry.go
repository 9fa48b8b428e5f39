package harness

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	registryPath = "/apis/ccompat/v7" // Apicurio's Confluent-compatible API
	registryJar  = "apicurio-registry-app-2.6.13.Final-runner.jar"
)

// RegistryProcess is a schema registry (Apicurio, in memory) of one's own. It
// keeps its port over Stop, Kill and Start, and forgets its schemas.
type RegistryProcess struct {
	URL  string // of the Confluent-compatible API
	Port int

	java, dir string
	process   *Process
}

var sharedRegistry = &shared{env: RegistryEnv, start: func() (string, func(), error) {
	server, err := startRegistry()
	if err != nil {
		return "", nil, err
	}
	return server.URL, func() { server.process.end(syscall.SIGKILL) }, nil
}}

// Registry returns the URL of the shared registry's Confluent-compatible API.
// Its compatibility is BACKWARD. Subjects are everybody's: they are apart if the
// topics are. The test is skipped with -short.
func Registry(t testing.TB) string {
	t.Helper()
	skipShort(t, "Apicurio Registry")
	url, err := sharedRegistry.get()
	must(t, err)
	return url
}

// RegistryServer starts a registry for this test alone and stops it at its end.
// The test is skipped with -short.
func RegistryServer(t testing.TB) *RegistryProcess {
	t.Helper()
	skipShort(t, "Apicurio Registry")
	s, err := startRegistry()
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last output of the registry:\n%s", lastLines(s.process.Output(), 40))
		}
		s.process.end(syscall.SIGKILL)
	})
	return s
}

func startRegistry() (*RegistryProcess, error) {
	s := &RegistryProcess{}
	var err error
	if s.java, err = java("registry"); err != nil {
		return nil, err
	}
	if s.dir, err = registryFolder(); err != nil {
		return nil, err
	}
	if s.Port, err = FreePort(); err != nil {
		return nil, err
	}
	s.URL = "http://" + loopback(s.Port) + registryPath
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// registryFolder returns the unpacked archive.
func registryFolder() (string, error) {
	fetched, err := mavenFolder("apicurio")
	if err != nil {
		return "", err
	}
	return cached(fetched, "app", func(dir string) error {
		archives, err := filepath.Glob(filepath.Join(fetched, "libs", "*.tar.gz"))
		if err != nil || len(archives) != 1 {
			return fmt.Errorf("want one archive in %s/libs, have %d", fetched, len(archives))
		}
		if err := untar(archives[0], dir); err != nil {
			return fmt.Errorf("unpack the registry: %w", err)
		}
		return os.Remove(archives[0])
	})
}

func untar(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // names in the archive cannot lead out of it
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpack(root, h, r); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unpack(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		out, err := root.Create(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	default:
		return nil
	}
}

func (s *RegistryProcess) start() error {
	p, err := start(Command{
		Path: s.java, Name: "registry", Dir: s.dir,
		Args: []string{"-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", registryJar},
		Env:  []string{"QUARKUS_HTTP_HOST=127.0.0.1", "QUARKUS_HTTP_PORT=" + strconv.Itoa(s.Port)},
	})
	if err != nil {
		return err
	}
	s.process = p
	if err := p.ready(2*time.Minute, s.setBackward); err != nil {
		p.end(syscall.SIGKILL)
		return err
	}
	return nil
}

// setBackward sets the global compatibility, which Apicurio starts at NONE where
// Confluent's registry starts at BACKWARD.
func (s *RegistryProcess) setBackward() error {
	req, err := http.NewRequest(http.MethodPut, s.URL+"/config", strings.NewReader(`{"compatibility":"BACKWARD"}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("set compatibility: HTTP %s", resp.Status)
	}
	return nil
}

// Output returns what the registry has logged since it was last started.
func (s *RegistryProcess) Output() string { return s.process.Output() }

// Stop shuts the registry down in order.
func (s *RegistryProcess) Stop(t testing.TB) { t.Helper(); s.process.Stop(t, time.Minute) }

// Kill ends the registry with SIGKILL.
func (s *RegistryProcess) Kill(t testing.TB) { t.Helper(); s.process.Kill(t) }

// Freeze stops the registry in its tracks: it accepts connections and does not
// answer. Thaw lets it go on.
func (s *RegistryProcess) Freeze(t testing.TB) { t.Helper(); s.process.Freeze(t) }

// Thaw lets a frozen registry go on.
func (s *RegistryProcess) Thaw(t testing.TB) { t.Helper(); s.process.Thaw(t) }

// Start starts a registry that was stopped or killed, empty, and waits until it answers.
func (s *RegistryProcess) Start(t testing.TB) {
	t.Helper()
	if s.process.Running() {
		t.Fatal("start registry: it runs already")
	}
	must(t, s.start())
}
