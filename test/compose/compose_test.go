package compose

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/millrace/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// load parses the file as `docker compose config` does: mistyped keys and
// dependencies on services that do not exist are errors.
func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(harness.Root(t), "docker-compose.yml")}, cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestEveryPartIsThere(t *testing.T) {
	t.Parallel()
	project := load(t)
	for _, name := range []string{"postgres", "kafka", "registry", "redis", "opensearch", "migrate", "relay", "warehouse", "search", "cache"} {
		if _, err := project.GetService(name); err != nil {
			t.Errorf("service %s: %v", name, err)
		}
	}
}

func TestEveryDependencyCanBeMet(t *testing.T) {
	t.Parallel()
	project := load(t)
	for _, service := range project.Services {
		for name, dependency := range service.DependsOn {
			needed, err := project.GetService(name)
			if err != nil {
				t.Errorf("%s depends on %s: %v", service.Name, name, err)
				continue
			}
			switch dependency.Condition {
			case types.ServiceConditionHealthy:
				if needed.HealthCheck == nil || needed.HealthCheck.Disable {
					t.Errorf("%s waits for %s to be healthy, which has no health check", service.Name, name)
				}
			case types.ServiceConditionCompletedSuccessfully:
				if needed.Restart != types.RestartPolicyNo {
					t.Errorf("%s waits for the end of %s, which restarts (%q)", service.Name, name, needed.Restart)
				}
			default:
				t.Errorf("%s depends on %s being merely started", service.Name, name)
			}
		}
	}
}

func TestEveryPortIsPublishedOnLoopbackAlone(t *testing.T) {
	t.Parallel()
	taken := map[string]string{}
	for _, service := range load(t).Services {
		for _, port := range service.Ports {
			if ip := net.ParseIP(port.HostIP); ip == nil || !ip.IsLoopback() {
				t.Errorf("%s publishes %s on %q, want a loopback address", service.Name, port.Published, port.HostIP)
			}
			if other := taken[port.Published]; other != "" {
				t.Errorf("%s and %s both publish port %s", other, service.Name, port.Published)
			}
			taken[port.Published] = service.Name
		}
		if service.NetworkMode == "host" {
			t.Errorf("%s shares the host's network", service.Name)
		}
	}
}

// version matches a tag that names one release, not a moving line of them.
var version = regexp.MustCompile(`:v?\d+\.\d+(\.\d+)?[\w.-]*$`)

func TestEveryImageIsPinned(t *testing.T) {
	t.Parallel()
	for _, service := range load(t).Services {
		switch {
		case service.Build != nil: // ours, made from this tree
			checkDockerfile(t, filepath.Join(service.Build.Context, service.Build.Dockerfile))
		case !version.MatchString(service.Image) && !strings.Contains(service.Image, "@sha256:"):
			t.Errorf("%s runs %s, want an exact version", service.Name, service.Image)
		}
	}
}

func checkDockerfile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(text)) {
		image, ok := strings.CutPrefix(line, "FROM ")
		if !ok {
			continue
		}
		found = true
		if image, _, _ = strings.Cut(strings.TrimSpace(image), " "); !version.MatchString(image) {
			t.Errorf("%s builds on %s, want an exact version", path, image)
		}
	}
	if !found {
		t.Errorf("%s has no FROM line", path)
	}
}

func TestEveryMountedFileIsInTheTree(t *testing.T) {
	t.Parallel()
	for _, service := range load(t).Services {
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil {
				t.Errorf("%s mounts %s: %v", service.Name, volume.Target, err)
			}
			if !volume.ReadOnly {
				t.Errorf("%s mounts %s writable", service.Name, volume.Source)
			}
		}
	}
}
