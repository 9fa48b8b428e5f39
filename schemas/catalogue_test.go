package schemas_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/millrace/millrace/schemas"
)

func folder(files ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return fsys
}

const (
	orderFile = `{"type":"record","name":"Order","namespace":"shop","millrace.topic":"shop.orders","millrace.key":"id",
		"fields":[{"name":"id","type":"string"},{"name":"total","type":"Money"},{"name":"lines","type":{"type":"array","items":"shop.Line"}},{"name":"kind","type":"Kind"}]}`
	lineFile  = `{"type":"record","name":"Line","namespace":"shop","fields":[{"name":"price","type":"Money"},{"name":"kind","type":["null","Kind"],"default":null}]}`
	moneyFile = `{"type":"record","name":"shop.Money","fields":[{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}}]}`
	kindFile  = `{"type":"enum","name":"Kind","namespace":"shop","symbols":["A","B"]}`
)

func TestFilesReferToEachOtherInAnyOrder(t *testing.T) {
	for _, names := range [][]string{{"a", "b", "c", "d"}, {"d", "c", "b", "a"}, {"sub/b", "a", "d", "sub/deep/c"}} {
		c, err := schemas.LoadFS(folder(names[0]+".avsc", orderFile, names[1]+".avsc", lineFile, names[2]+".avsc", moneyFile, names[3]+".avsc", kindFile, "README.md", "no schema"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, s := range c.All() {
			all = append(all, s.Name)
		}
		if got := strings.Join(all, " "); got != "shop.Line shop.Money shop.Order" {
			t.Fatalf("records %s", got)
		}
		order, ok := c.Lookup("shop.Order")
		if !ok || order.Topic != "shop.orders" || order.Key != "id" || order.File != names[0]+".avsc" {
			t.Fatalf("%+v", order)
		}
		// Complete in itself, and the same when read again.
		again, err := schemas.Parse(order.Text)
		if err != nil || again.Text != order.Text || again.Fingerprint != order.Fingerprint {
			t.Fatalf("read again: %v\n%s\n%+v", err, order.Text, again)
		}
	}
}

func TestLoadDirNamesFilesWithTheirFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "money.avsc")
	if err := os.WriteFile(file, []byte(moneyFile), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := schemas.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := c.Lookup("shop.Money"); !ok || s.File != file {
		t.Fatalf("%+v", s)
	}
	if _, err := schemas.LoadDir(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a folder that is not there: %v", err)
	}
}

// record is a schema file with the given fields.
func record(name, fields string) string {
	return `{"type":"record","name":"` + name + `",` + "\n" + `"fields":[` + fields + `]}`
}

func TestWhatIsWrongWithAFolderNamesFileLineAndField(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  []string
	}{
		"unknown name":            {[]string{"a.avsc", record("s.A", "\n"+`{"name":"x","type":"Missing"}`)}, []string{"a.avsc:3: s.A: field x", "unknown type s.Missing"}},
		"unknown name deep down":  {[]string{"a.avsc", record("A", `{"name":"x","type":["null",{"type":"array","items":{"type":"record","name":"B","fields":[{"name":"y","type":"Missing"}]}}]}`)}, []string{"a.avsc:2", "A: field x.y"}},
		"fault in another's file": {[]string{"a.avsc", record("A", `{"name":"x","type":"B"}`), "b.avsc", record("B", `{"name":"y","type":"Missing"}`)}, []string{"b.avsc:2", "A: field x.y"}},
		"defined twice":           {[]string{"a.avsc", record("A", ""), "b.avsc", record("A", "")}, []string{"b.avsc:1", "A", "defined twice", "a.avsc:1"}},
		"defined twice in one":    {[]string{"a.avsc", record("A", `{"name":"x","type":{"type":"enum","name":"E","symbols":["A"]}},`+"\n"+`{"name":"y","type":{"type":"enum","name":"E","symbols":["A"]}}`)}, []string{"a.avsc:3", "E: defined twice"}},
		"cycle":                   {[]string{"a.avsc", record("A", `{"name":"x","type":["null","B"]}`), "b.avsc", record("B", `{"name":"y","type":["null","A"]}`)}, []string{"contains itself", "A -> B -> A"}},
		"contains itself":         {[]string{"a.avsc", record("A", `{"name":"x","type":["null","A"]}`)}, []string{"A -> A"}},
		"not JSON":                {[]string{"a.avsc", "{\n\"type\": nonsense\n}"}, []string{"a.avsc:2", "not JSON"}},
		"cut off":                 {[]string{"a.avsc", `{"type":"record"`}, []string{"a.avsc:1", "ends too early"}},
		"empty":                   {[]string{"a.avsc", " \n"}, []string{"a.avsc", "empty"}},
		"two schemas":             {[]string{"a.avsc", record("A", "") + "\n" + record("B", "")}, []string{"a.avsc:3", "text follows"}},
		"a list of schemas":       {[]string{"a.avsc", `[` + record("A", "") + `]`}, []string{"a.avsc:1", "one named type"}},
		"a bare type":             {[]string{"a.avsc", `"string"`}, []string{"a.avsc:1", "one named type"}},
		"a key twice":             {[]string{"a.avsc", `{"type":"record","name":"A",` + "\n" + `"name":"B","fields":[]}`}, []string{"a.avsc:2", `"name" is given twice`}},
		"no name":                 {[]string{"a.avsc", `{"type":"record","fields":[]}`}, []string{"a.avsc:1", "has no name"}},
		"a name that is none":     {[]string{"a.avsc", record("my-type", "")}, []string{"a.avsc:1", `"my-type" is no name`}},
		"a primitive's name":      {[]string{"a.avsc", record("string", "")}, []string{"that Avro knows"}},
		"no fields":               {[]string{"a.avsc", `{"type":"record","name":"A"}`}, []string{"a.avsc:1: A", `no list "fields"`}},
		"a field without a type":  {[]string{"a.avsc", record("A", `{"name":"x"}`)}, []string{"a.avsc:2: A: field x", `no "type"`}},
		"a field without a name":  {[]string{"a.avsc", record("A", `{"type":"int"}`)}, []string{"a.avsc:2: A", "field 1 of A"}},
		"a field twice":           {[]string{"a.avsc", record("A", `{"name":"x","type":"int"},`+"\n"+`{"name":"x","type":"int"}`)}, []string{"a.avsc:3: A: field x", "second field"}},
		"a default that is none":  {[]string{"a.avsc", record("A", `{"name":"x","type":"int","default":"y"}`)}, []string{"a.avsc: A", `"x"`, "default"}},
		"an enum written flat":    {[]string{"a.avsc", record("A", `{"name":"x","type":"enum","symbols":["A"]}`)}, []string{"A: field x", "an object of its own"}},
		"a misplaced logicalType": {[]string{"a.avsc", record("A", `{"name":"x","type":"long","logicalType":"timestamp-micros"}`)}, []string{"A: field x", "beside the type"}},
		"an unknown property":     {[]string{"a.avsc", `{"type":"record","name":"A","millrace.topics":"t","fields":[]}`}, []string{"a.avsc:1", "millrace.topics"}},
		"no such key field":       {[]string{"a.avsc", `{"type":"record","name":"A",` + "\n" + `"millrace.key":"id","fields":[]}`}, []string{"a.avsc:2: A", `"id"`}},
		"a key that can be null":  {[]string{"a.avsc", `{"type":"record","name":"A","millrace.key":"id","fields":[{"name":"id","type":["null","string"]}]}`}, []string{"A: field id", "cannot be null"}},
		"a topic that is none":    {[]string{"a.avsc", `{"type":"record","name":"A","millrace.topic":"my topic","fields":[]}`}, []string{"a.avsc:1: A", "no topic"}},
		"a reserved topic":        {[]string{"a.avsc", `{"type":"record","name":"A","millrace.topic":"__mine","fields":[]}`}, []string{"no topic"}},
		"a topic of dots":         {[]string{"a.avsc", `{"type":"record","name":"A","millrace.topic":"..","fields":[]}`}, []string{"no topic"}},
		"no file":                 {[]string{"a.json", "{}"}, []string{"no .avsc file"}},
		"too large":               {[]string{"a.avsc", `{"doc":"` + strings.Repeat("x", 1<<20) + `"}`}, []string{"a.avsc", "larger"}},
		"too deep":                {[]string{"a.avsc", strings.Repeat("[", 100_000)}, []string{"a.avsc:1", "deeper"}},
		"types too deep":          {[]string{"a.avsc", record("A", `{"name":"x","type":`+strings.Repeat(`{"type":"array","items":`, 60)+`"int"`+strings.Repeat("}", 60)+`}`)}, []string{"A: field x", "deeper"}},
		"not text":                {[]string{"a.avsc", "{\"type\":\"\xff\"}"}, []string{"a.avsc", "UTF-8"}},
		"every file's fault":      {[]string{"a.avsc", record("A", `{"name":"x","type":"M"}`), "b.avsc", record("B", `{"name":"x","type":"N"}`)}, []string{"a.avsc:2", "unknown type M", "b.avsc:2", "unknown type N"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schemas.LoadFS(folder(tc.files...))
			var e *schemas.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *schemas.Error", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
		})
	}
}

func TestKeysHaveOnePlainText(t *testing.T) {
	for typ, ok := range map[string]bool{
		`"string"`: true, `"int"`: true, `"long"`: true,
		`{"type":"string","logicalType":"uuid"}`:                     true,
		`{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}`: true,
		`{"type":"enum","name":"E","symbols":["A"]}`:                 true,
		`"bytes"`: false, `"double"`: false, `"boolean"`: false, `["string","int"]`: false,
		`{"type":"long","logicalType":"timestamp-micros"}`:       false,
		`{"type":"fixed","name":"U","size":16}`:                  false,
		`{"type":"array","items":"string"}`:                      false,
		`{"type":"bytes","logicalType":"decimal","precision":4}`: false,
	} {
		_, err := schemas.Parse(`{"type":"record","name":"A","millrace.key":"k","fields":[{"name":"k","type":` + typ + `}]}`)
		if (err == nil) != ok {
			t.Errorf("%s: %v", typ, err)
		}
	}
	// A key may be of a type that another file defines.
	_, err := schemas.LoadFS(folder("a.avsc", `{"type":"record","name":"A","millrace.key":"k","fields":[{"name":"k","type":"E"}]}`, "e.avsc", `{"type":"enum","name":"E","symbols":["A"]}`))
	if err != nil {
		t.Error(err)
	}
}

func TestCataloguesMergeUnlessTheyDisagree(t *testing.T) {
	load := func(file string) *schemas.Catalogue {
		c, err := schemas.LoadFS(folder("x.avsc", file))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b, c := load(record("A", "")), load(record("B", "")), load(record("A", `{"name":"x","type":"int"}`))
	both, err := a.Merge(b)
	if err != nil || len(both.All()) != 2 || len(a.All()) != 1 {
		t.Fatalf("%v, %v", both, err)
	}
	if _, err := both.Merge(a); err != nil {
		t.Errorf("the same schema again: %v", err)
	}
	var e *schemas.Error
	if _, err := both.Merge(c); !errors.As(err, &e) || e.Name != "A" {
		t.Errorf("another schema of the name: %v", err)
	}
}

func ExampleLoadFS() {
	catalogue, err := schemas.LoadFS(folder(
		"money.avsc", moneyFile,
		"payment.avsc", `{"type": "record", "name": "Payment", "namespace": "shop", "millrace.topic": "shop.payments", "millrace.key": "id",
			"fields": [{"name": "id", "type": "string"}, {"name": "amount", "type": "Money"}]}`,
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	payment, _ := catalogue.Lookup("shop.Payment")
	fmt.Println(payment.Topic, payment.Key, payment.Fingerprint)

	_, err = schemas.LoadFS(folder("payment.avsc", `{"type": "record", "name": "Payment",
		"fields": [{"name": "amount", "type": "Money"}]}`))
	fmt.Println(err)
	// Output:
	// shop.payments id a74db3b4e7c79b3ee918d36037cf22b3
	// payment.avsc:2: Payment: field amount: unknown type Money
}
