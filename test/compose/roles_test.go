package compose

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/millrace/millrace/test/harness"
)

// listing is the event that deploy/README.md writes.
const listing = `SELECT outbox.emit('shop.ProductListed', 'p-1', '{"product_id": "p-1", "name": "Copper kettle",
	"description": "Two litres", "price": "39.50", "row_version": 1, "listed_at": "2026-01-05T10:00:00Z"}')`

// What the containers would do, as plain processes: the same commands in the order of their dependencies, with the same
// configuration but for the addresses. One event must come through.
func TestTheServicesRunTogetherAsProcesses(t *testing.T) {
	t.Parallel()
	run := &roles{t: t, binary: harness.Binary(t), database: harness.Postgres(t), project: load(t)}
	run.address = strings.NewReplacer(
		"kafka:19092", harness.KafkaServer(t, harness.KafkaOptions{}).Brokers[0], // its own: the topics' names are fixed
		"http://registry:8080/apis/ccompat/v7", harness.Registry(t),
		"redis://redis:6379", harness.Redis(t).URL,
	)
	run.once("migrate")
	run.once("schemas")
	run.serve("relay")
	if _, err := run.database.Conn(t).Exec(t.Context(), listing); err != nil {
		t.Fatal(err)
	}
	warehouse, search := run.serve("warehouse"), run.serve("search")
	run.serve("cache")
	warehouse.answers("Copper kettle", "sql", "select * from product")
	search.answers("p-1", "search", "product", "kettle")
}

// roles starts services of the Compose file as processes.
type roles struct {
	t        *testing.T
	binary   string
	database *harness.PostgresDB
	project  *types.Project
	address  *strings.Replacer
}

// role is one service: the environment that its container would have.
type role struct {
	*roles
	service types.ServiceConfig
	env     []string
	ready   string // URL
}

func (r *roles) role(name string) role {
	r.t.Helper()
	service, err := r.project.GetService(name)
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		r.t.Fatal(err)
	}
	root := mounts(r.t, service)
	config := filepath.Join(root, *service.Environment["MILLRACE_CONFIG"])
	text, err := os.ReadFile(config)
	if err != nil {
		r.t.Fatal(err)
	}
	listen := "127.0.0.1:" + strconv.Itoa(port)
	here := strings.NewReplacer("/var/lib/millrace", r.t.TempDir(), "0.0.0.0:8088", listen).Replace(r.address.Replace(string(text)))
	if err := os.Remove(config); err != nil { // a link into the tree
		r.t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(here), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return role{roles: r, service: service, env: []string{"MILLRACE_CONFIG=" + config, "DATABASE_URL=" + r.database.DSN},
		ready: "http://" + listen + "/readyz"}
}

func (r role) start(args ...string) *harness.Process {
	r.t.Helper()
	return harness.Start(r.t, harness.Command{Path: r.binary, Args: args, Env: r.env, Name: r.service.Name})
}

// once runs a service that ends.
func (r *roles) once(name string) {
	r.t.Helper()
	one := r.role(name)
	p := one.start(one.service.Command...)
	if code := p.Wait(r.t, time.Minute); code != 0 {
		r.t.Fatalf("service %s: exit status %d:\n%s", name, code, p.Output())
	}
}

// serve starts a service, waits until its health check would pass, and stops it
// at the end of the test as Compose would: it must end in time, and well.
func (r *roles) serve(name string) role {
	r.t.Helper()
	one := r.role(name)
	p := one.start(one.service.Command...)
	r.t.Cleanup(func() {
		if code := p.Stop(r.t, time.Duration(*one.service.StopGracePeriod)); code != 0 {
			r.t.Errorf("service %s: exit status %d when asked to stop", name, code)
		}
	})
	one.eventually(func() bool {
		resp, err := http.Get(one.ready)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "service %s never became ready", name)
	return one
}

// answers asks the running service with another process of the binary, until
// the answer contains want.
func (r role) answers(want string, args ...string) {
	r.t.Helper()
	var last *harness.Process
	r.eventually(func() bool {
		last = r.start(args...)
		return last.Wait(r.t, time.Minute) == 0 && strings.Contains(last.Stdout(), want)
	}, "millrace %v never said %q", args, want)
}

func (r role) eventually(ok func() bool, format string, args ...any) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf(format, args...)
		}
	}
}
