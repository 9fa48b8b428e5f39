package devregistry_test

import (
	"encoding/hex"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/registry"
	"github.com/millrace/millrace/services/devregistry"
	"github.com/millrace/millrace/test/harness"
)

// Confluent's own client gets along with the registry, reads what Millrace writes, and writes the same bytes.
func TestConfluentsPythonClientGetsAlong(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: needs a Python environment")
	}
	python := harness.Python(t)
	a := start(t, devregistry.Config{})
	const schema = `{"type":"record","name":"shop.Paid","fields":[
		{"name":"id","type":"string"},
		{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
		{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
		{"name":"day","type":{"type":"int","logicalType":"date"}},
		{"name":"note","type":["null","string"]},
		{"name":"count","type":"long"}]}`
	codec, err := avro.New(schema)
	if err != nil {
		t.Fatal(err)
	}
	client, err := registry.New(registry.Config{URL: a.url, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	id, err := client.Register(t.Context(), "go-value", codec.Schema().Text)
	if err != nil {
		t.Fatal(err)
	}
	framed, err := codec.AppendEncodeJSON(avro.AppendFrame(nil, id),
		[]byte(`{"id":"ö","amount":-12.34,"at":"2024-05-01T10:00:00.000001Z","day":"1969-12-31","note":null,"count":9007199254740993}`))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "client.py"), a.url, hex.EncodeToString(framed)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	bytes, value, _ := strings.Cut(string(out), "\n")
	if bytes != hex.EncodeToString(framed) {
		t.Errorf("Python wrote\n%s, not\n%x", bytes, framed)
	}
	for _, want := range []string{"Decimal('-12.34')", "9007199254740993", "'ö'", "datetime.date(1969, 12, 31)", "10, 0, 0, 1", "('note', None)"} {
		if !strings.Contains(value, want) {
			t.Errorf("Python read %s, without %s", value, want)
		}
	}
}
