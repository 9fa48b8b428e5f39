package compose

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/millrace/millrace/test/harness"
)

// millraceServices returns the services that run our image.
func millraceServices(t *testing.T) []types.ServiceConfig {
	t.Helper()
	var ours []types.ServiceConfig
	for _, service := range load(t).Services {
		if service.Build != nil {
			ours = append(ours, service)
		}
	}
	if len(ours) < 5 {
		t.Fatalf("%d services run millrace, want migrate, relay and three sinks", len(ours))
	}
	return ours
}

func TestEveryCommandIsOneOfMillrace(t *testing.T) {
	binary := harness.Binary(t)
	for _, service := range millraceServices(t) {
		t.Run(service.Name, func(t *testing.T) {
			p := harness.Start(t, harness.Command{Path: binary, Args: append(slices.Clone(service.Command), "--help")})
			if code := p.Wait(t, time.Minute); code != 0 {
				t.Fatalf("millrace %v --help: exit status %d:\n%s", service.Command, code, p.Output())
			}
			// An unknown subcommand would get the help of its parent.
			path := "millrace " + strings.Join(service.Command, " ")
			if service.Command[0] == "sink" {
				path = "millrace sink"
			}
			if !strings.Contains(p.Stdout(), path) {
				t.Errorf("%q is no subcommand:\n%s", path, p.Stdout())
			}
		})
	}
}

// The configuration, with what is mounted beside it, is one that the binary takes.
func TestEveryMillraceServiceHasAValidConfiguration(t *testing.T) {
	binary := harness.Binary(t)
	for _, service := range millraceServices(t) {
		t.Run(service.Name, func(t *testing.T) {
			dir := mounts(t, service)
			env := []string{"MILLRACE_CONFIG=" + filepath.Join(dir, *service.Environment["MILLRACE_CONFIG"]),
				"DATABASE_URL=" + *service.Environment["DATABASE_URL"]}
			p := harness.Start(t, harness.Command{Path: binary, Args: []string{"config", "check"}, Env: env})
			if code := p.Wait(t, time.Minute); code != 0 {
				t.Fatalf("exit status %d:\n%s", code, p.Output())
			}
		})
	}
}

// mounts lays out what the service would find mounted under a new root folder.
func mounts(t *testing.T, service types.ServiceConfig) string {
	t.Helper()
	root := t.TempDir()
	for _, volume := range service.Volumes {
		if volume.Type != types.VolumeTypeBind {
			continue
		}
		target := filepath.Join(root, volume.Target)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(volume.Source, target); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Each sink service names a sink of the configuration.
func TestEverySinkServiceIsConfigured(t *testing.T) {
	t.Parallel()
	for _, service := range millraceServices(t) {
		if service.Command[0] == "sink" && service.Command[1] != service.Name {
			t.Errorf("service %s runs sink %s", service.Name, service.Command[1])
		}
	}
}
