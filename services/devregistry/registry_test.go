package devregistry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/riferrei/srclient"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/services/devregistry"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

func start(t *testing.T, cfg devregistry.Config) *api {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := devregistry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &api{t: t, url: server.URL, http: server.Client()}
}

// api speaks to a registry as a client of its HTTP interface.
type api struct {
	t    *testing.T
	url  string
	http *http.Client
}

func (a *api) do(method, path, body string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (a *api) want(method, path, body string, status int, answer string) {
	a.t.Helper()
	got, text := a.do(method, path, body)
	if got != status || !strings.Contains(text, answer) {
		a.t.Errorf("%s %s %.200s\n got %d %s\nwant %d %s", method, path, body, got, text, status, answer)
	}
}

func schemaOf(fields string) string {
	text, _ := json.Marshal(map[string]string{"schema": `{"type":"record","name":"T","fields":[` + fields + `]}`})
	return string(text)
}

const (
	fieldA        = `{"name":"a","type":"string"}`
	fieldB        = `{"name":"b","type":"long"}`
	fieldBDefault = `{"name":"b","type":"long","default":0}`
	fieldCDefault = `{"name":"c","type":"long","default":0}`
)

func TestTheInterfaceAsClientsKnowIt(t *testing.T) {
	a := start(t, devregistry.Config{})
	ab := schemaOf(fieldA + "," + fieldBDefault)
	a.want("GET", "/", "", 200, `{}`)
	a.want("GET", "/subjects", "", 200, `[]`)
	a.want("GET", "/subjects/s/versions", "", 404, `40401`)
	a.want("POST", "/subjects/s", schemaOf(fieldA), 404, `40401`)
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA), 200, `{"id":1}`)
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA), 200, `{"id":1}`)
	a.want("POST", "/subjects/other%2Fone/versions", schemaOf(fieldA), 200, `{"id":1}`)
	a.want("POST", "/subjects/s", ab, 404, `40403`)
	a.want("POST", "/subjects/s/versions", ab, 200, `{"id":2}`)
	a.want("POST", "/subjects/s", ab, 200, `"version":2,"id":2`)
	a.want("GET", "/subjects", "", 200, `["other/one","s"]`)
	a.want("GET", "/subjects?subjectPrefix=s", "", 200, `["s"]`)
	a.want("GET", "/subjects/s/versions", "", 200, `[1,2]`)
	a.want("GET", "/subjects/s/versions/latest", "", 200, `"version":2,"id":2`)
	a.want("GET", "/subjects/s/versions/1", "", 200, `"version":1,"id":1`)
	a.want("GET", "/subjects/s/versions/1/schema", "", 200, `{"type":"record"`)
	a.want("GET", "/subjects/s/versions/3", "", 404, `40402`)
	a.want("GET", "/subjects/s/versions/0", "", 422, `42202`)
	a.want("GET", "/subjects/s/versions/x", "", 422, `42202`)
	a.want("GET", "/schemas/types", "", 200, `["AVRO"]`)
	a.want("GET", "/schemas/ids/2", "", 200, `{"schema":"{`)
	a.want("GET", "/schemas/ids/2/schema", "", 200, `{"type":"record"`)
	a.want("GET", "/schemas/ids/3", "", 404, `40403`)
	a.want("GET", "/schemas/ids/x", "", 404, `40403`)
	a.want("GET", "/schemas/ids/1/versions", "", 200, `[{"subject":"other/one","version":1},{"subject":"s","version":1}]`)
	a.want("GET", "/schemas/ids/1/subjects", "", 200, `["other/one","s"]`)
	a.want("GET", "/mode", "", 200, `{"mode":"READWRITE"}`)
	a.want("PUT", "/mode", `{"mode":"READONLY"}`, 422, `42205`)
}

func TestWhatIsNoSchemaIsRefused(t *testing.T) {
	a := start(t, devregistry.Config{})
	a.want("POST", "/subjects/s/versions", schemaOf(`{"name":"a","type":"nonsense"}`), 422, `42201`)
	a.want("POST", "/subjects/s/versions", `{"schema":"{"}`, 422, `42201`)
	a.want("POST", "/subjects/s/versions", `{"schema":""}`, 422, `42201`)
	a.want("POST", "/subjects/s/versions", `{"schemaType":"PROTOBUF","schema":"x"}`, 422, `42201`)
	a.want("POST", "/subjects/s/versions", `no`, 400, `400`)
	a.want("POST", "/subjects/"+strings.Repeat("s", 600)+"/versions", schemaOf(fieldA), 400, `too long`)
	a.want("POST", "/subjects/s/versions", `{"schema":"\"`+strings.Repeat("x", 1<<20)+`\""}`, 422, `larger`)
	a.want("POST", "/subjects/s/versions", `{"schema":"`+strings.Repeat("x", 5<<20)+`"}`, 413, `larger`)
	a.want("POST", "/subjects/s/versions", `{"schema":"`+strings.Repeat("[", 1<<19)+`"}`, 422, `42201`)
	a.want("POST", "/subjects/s/versions", `{"schema":"string"}`, 200, `"id":1`)
	a.want("POST", "/subjects/s/versions", `{"schema":"\"string\""}`, 200, `"id":1`)
}

func TestLevelsSayWhoMustReadWhom(t *testing.T) {
	// The schemas of a subject in turn, and the levels that take the last one.
	for name, tc := range map[string]struct {
		versions []string
		ok       string
	}{
		"a field with a default is added":    {[]string{fieldA, fieldA + "," + fieldBDefault}, "NONE BACKWARD BACKWARD_TRANSITIVE FORWARD FORWARD_TRANSITIVE FULL FULL_TRANSITIVE"},
		"a field without a default is added": {[]string{fieldA, fieldA + "," + fieldB}, "NONE FORWARD FORWARD_TRANSITIVE"},
		"a field without a default goes":     {[]string{fieldA + "," + fieldB, fieldA}, "NONE BACKWARD BACKWARD_TRANSITIVE"},
		"a type changes":                     {[]string{fieldA, `{"name":"a","type":"int"}`}, "NONE"},
		"a default goes after the field was added": {[]string{fieldA, fieldA + "," + fieldBDefault, fieldA + "," + fieldB},
			"NONE BACKWARD FORWARD FORWARD_TRANSITIVE FULL"},
	} {
		for _, level := range strings.Fields("NONE BACKWARD BACKWARD_TRANSITIVE FORWARD FORWARD_TRANSITIVE FULL FULL_TRANSITIVE") {
			t.Run(name+"/"+level, func(t *testing.T) {
				a := start(t, devregistry.Config{Compatibility: devregistry.None})
				last := len(tc.versions) - 1
				for _, fields := range tc.versions[:last] {
					a.want("POST", "/subjects/s/versions", schemaOf(fields), 200, `"id"`)
				}
				a.want("PUT", "/config/s", `{"compatibility":"`+level+`"}`, 200, level)
				ok := strings.Contains(" "+tc.ok+" ", " "+level+" ")
				a.want("POST", "/compatibility/subjects/s/versions?verbose=true", schemaOf(tc.versions[last]), 200, fmt.Sprintf(`"is_compatible":%v`, ok))
				if ok {
					a.want("POST", "/subjects/s/versions", schemaOf(tc.versions[last]), 200, `"id"`)
				} else {
					a.want("POST", "/subjects/s/versions", schemaOf(tc.versions[last]), 409, `"error_code":409`)
				}
			})
		}
	}
}

func TestConfigIsGlobalAndPerSubject(t *testing.T) {
	a := start(t, devregistry.Config{})
	a.want("GET", "/config", "", 200, `{"compatibilityLevel":"BACKWARD"}`)
	a.want("GET", "/config/s", "", 404, `40408`)
	a.want("GET", "/config/s?defaultToGlobal=true", "", 200, `BACKWARD`)
	a.want("PUT", "/config/s", `{"compatibility":"FULL"}`, 200, `{"compatibility":"FULL"}`)
	a.want("GET", "/config/s", "", 200, `FULL`)
	a.want("PUT", "/config", `{"compatibility":"NONE"}`, 200, `NONE`)
	a.want("PUT", "/config", `{"compatibility":"SOMETIMES"}`, 422, `42203`)
	a.want("DELETE", "/config/s", "", 200, `FULL`)
	a.want("GET", "/config/s?defaultToGlobal=true", "", 200, `NONE`)
	a.want("GET", "/subjects/s/versions", "", 404, `40401`)
	a.want("POST", "/compatibility/subjects/s/versions/latest", schemaOf(fieldA), 404, `40401`)
}

func TestDeletedSchemasStayReadableByID(t *testing.T) {
	a := start(t, devregistry.Config{})
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA), 200, `{"id":1}`)
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA+","+fieldBDefault), 200, `{"id":2}`)
	a.want("DELETE", "/subjects/s?permanent=true", "", 404, `40405`)
	a.want("DELETE", "/subjects/s/versions/2", "", 200, `2`)
	a.want("GET", "/subjects/s/versions/latest", "", 200, `"version":1`)
	a.want("DELETE", "/subjects/s", "", 200, `[1]`)
	a.want("DELETE", "/subjects/s", "", 404, `40404`)
	a.want("GET", "/subjects", "", 200, `[]`)
	a.want("GET", "/subjects?deleted=true", "", 200, `["s"]`)
	a.want("GET", "/schemas/ids/1", "", 200, `schema`)
	// What was deleted binds nobody, and the numbers go on.
	a.want("POST", "/subjects/s/versions", schemaOf(`{"name":"a","type":"int"}`), 200, `{"id":3}`)
	a.want("GET", "/subjects/s/versions", "", 200, `[3]`)
	a.want("DELETE", "/subjects/s", "", 200, `[3]`)
	a.want("DELETE", "/subjects/s?permanent=true", "", 200, `[1,2,3]`)
	a.want("GET", "/subjects?deleted=true", "", 200, `[]`)
	a.want("DELETE", "/subjects/s", "", 404, `40401`)
}

func TestReferencesAreResolved(t *testing.T) {
	a := start(t, devregistry.Config{})
	body := func(schema, refs string) string {
		text, _ := json.Marshal(map[string]any{"schema": schema, "references": json.RawMessage(refs)})
		return string(text)
	}
	money := `{"type":"record","name":"Money","fields":[{"name":"cents","type":"long"}]}`
	order := `{"type":"record","name":"Order","fields":[{"name":"total","type":"Money"}]}`
	a.want("POST", "/subjects/money/versions", body(money, `[]`), 200, `{"id":1}`)
	a.want("POST", "/subjects/order/versions", body(order, `[]`), 422, `42201`)
	a.want("POST", "/subjects/order/versions", body(order, `[{"name":"Money","subject":"money","version":2}]`), 422, `42201`)
	a.want("POST", "/subjects/order/versions", body(order, `[{"name":"Money","subject":"money","version":1}]`), 200, `{"id":2}`)
	a.want("GET", "/schemas/ids/2", "", 200, `"references":[{"name":"Money","subject":"money","version":1}]`)
}

func TestAFileSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.json")
	a := start(t, devregistry.Config{File: file})
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA), 200, `{"id":1}`)
	a.want("PUT", "/config/s", `{"compatibility":"FULL"}`, 200, `FULL`)

	a = start(t, devregistry.Config{File: file})
	a.want("GET", "/subjects/s/versions/latest", "", 200, `"version":1,"id":1`)
	a.want("GET", "/config/s", "", 200, `FULL`)
	a.want("POST", "/subjects/s/versions", schemaOf(fieldB), 409, `409`)
	a.want("POST", "/subjects/s/versions", schemaOf(fieldA+","+fieldCDefault), 200, `{"id":2}`)
}

func TestABrokenFileIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":         `{`,
		"no such id":       `{"subjects":{"s":{"versions":[{"version":1,"id":1}]}}}`,
		"an empty subject": `{"subjects":{"s":null}}`,
		"no schema":        `{"schemas":[{"id":1,"schema":"nonsense x"}]}`,
		"out of place":     `{"schemas":[{"id":2,"schema":"\"int\""}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "registry.json")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := devregistry.New(devregistry.Config{File: file})
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Fatalf("got %v, want an error that names the file", err)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []devregistry.Config{
		{Compatibility: "SOMETIMES"},
		{Listen: "nowhere"},
		{File: t.TempDir()},
	} {
		if _, err := devregistry.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func TestSrclientGetsAlong(t *testing.T) {
	a := start(t, devregistry.Config{})
	client := srclient.NewSchemaRegistryClient(a.url, srclient.WithClient(a.http))
	client.CachingEnabled(false)
	created, err := client.CreateSchema("s", `"string"`, srclient.Avro)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := client.GetLatestSchema("s"); err != nil || got.ID() != created.ID() || got.Version() != 1 {
		t.Errorf("latest: %+v, %v", got, err)
	}
	if got, err := client.LookupSchema("s", `"string"`, srclient.Avro); err != nil || got.Version() != 1 {
		t.Errorf("lookup: %+v, %v", got, err)
	}
	if got, err := client.GetSubjectVersionsById(created.ID()); err != nil || len(got) != 1 {
		t.Errorf("versions by id: %+v, %v", got, err)
	}
	if ok, err := client.IsSchemaCompatible("s", `"int"`, "latest", srclient.Avro); err != nil || ok {
		t.Errorf("compatible: %v, %v", ok, err)
	}
	if _, err := client.ChangeSubjectCompatibilityLevel("s", srclient.Full); err != nil {
		t.Error(err)
	}
	if level, err := client.GetCompatibilityLevel("s", true); err != nil || *level != srclient.Full {
		t.Errorf("level: %v, %v", level, err)
	}
	if err := client.DeleteSubject("s", true); err != nil {
		t.Error(err)
	}
	var said srclient.Error
	if _, err := client.GetLatestSchema("s"); !errors.As(err, &said) || said.Code != 40401 {
		t.Errorf("after deletion: %v", err)
	}
}

func TestRunServesUntilItsContextEnds(t *testing.T) {
	s, err := devregistry.New(devregistry.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	a := &api{t: t, url: s.URL(), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	if !strings.HasPrefix(a.url, "http://127.0.0.1:") {
		t.Errorf("it listens on %s", a.url)
	}
	a.want("GET", "/subjects", "", 200, `[]`)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestRunReportsAListenerThatBroke(t *testing.T) {
	s, err := devregistry.New(devregistry.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Fatal("no error")
	}
}
