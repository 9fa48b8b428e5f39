package schemas_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/schemas"
)

func parse(t testing.TB, text string) *schemas.Schema {
	t.Helper()
	s, err := schemas.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

const base = `{"type":"record","name":"shop.A","aliases":["Old"],"millrace.topic":"t","fields":[
	{"name":"n","type":"int","default":1},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
	{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"],"default":"A"},"aliases":["f"]},
	{"name":"again","type":["null","E"],"default":null},
	{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
	{"name":"m","type":{"type":"map","values":"string"},"default":{"a":"1","b":"2"}}]}`

func TestWhatDoesNotMatterKeepsTheFingerprint(t *testing.T) {
	want := parse(t, base)
	for name, replace := range map[string][2]string{
		"whitespace":           {`,`, " ,\n "},
		"order of keys":        {`"name":"n","type":"int","default":1`, `"default":1,"type":"int","name":"n"`},
		"namespace apart":      {`"name":"shop.A"`, `"name":"A","namespace":"shop"`},
		"alias in full":        {`"Old"`, `"shop.Old"`},
		"reference in full":    {`["null","E"]`, `["null","shop.E"]`},
		"a type in an object":  {`"type":"int"`, `"type":{"type":"int"}`},
		"documentation":        {`"name":"n","type":"int"`, `"name":"n","doc":"how many","type":{"type":"int","doc":"32 bits"}`},
		"documentation on top": {`"type":"record"`, `"type":"record","doc":"words"`},
		"order in a default":   {`{"a":"1","b":"2"}`, `{"b":"2","a":"1"}`},
		"escapes":              {`"Old"`, `"\u004fld"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := parse(t, strings.Replace(base, replace[0], replace[1], -1))
			if got.Fingerprint != want.Fingerprint {
				t.Errorf("got\n%s\nwant\n%s", got.Text, want.Text)
			}
		})
	}
}

func TestWhatMattersChangesTheFingerprint(t *testing.T) {
	seen := map[schemas.Fingerprint]string{parse(t, base).Fingerprint: "as it was"}
	for name, replace := range map[string][2]string{
		"default":                {`"default":1`, `"default":2`},
		"no default":             {`,"default":1`, ``},
		"logical type":           {`timestamp-micros`, `timestamp-millis`},
		"no logical type":        {`,"logicalType":"timestamp-micros"`, ``},
		"alias of the type":      {`"Old"`, `"Older"`},
		"alias of a field":       {`["f"]`, `["g"]`},
		"scale":                  {`"scale":2`, `"scale":3`},
		"default of the enum":    {`"default":"A"`, `"default":"B"`},
		"topic":                  {`"millrace.topic":"t"`, `"millrace.topic":"u"`},
		"another property":       {`"millrace.topic":"t"`, `"millrace.topic":"t","owner":"us"`},
		"property of a field":    {`"name":"n"`, `"name":"n","pii":true`},
		"doc inside a default":   {`{"a":"1","b":"2"}`, `{"a":"1","b":"2","doc":"3"}`},
		"order of fields":        {`"fields":[`, `"fields":[{"name":"z","type":"int"},`},
		"order of union members": {`["null","E"],"default":null`, `["E","null"]`},
	} {
		got := parse(t, strings.Replace(base, replace[0], replace[1], 1))
		if other, twice := seen[got.Fingerprint]; twice {
			t.Errorf("%s: the same fingerprint as %s", name, other)
		}
		seen[got.Fingerprint] = name
	}
}

func TestDocumentationStaysInTheText(t *testing.T) {
	s := parse(t, `{"type":"record","name":"A","doc":"why <it> is","fields":[{"name":"n","type":"int","doc":"how many"}]}`)
	if !strings.Contains(s.Text, `"doc":"why <it> is"`) || !strings.Contains(s.Text, `"doc":"how many"`) {
		t.Fatal(s.Text)
	}
}

// A schema's layout over files does not matter: written out in place or referred to, it is the same.
func TestTheLayoutOfFilesDoesNotMatter(t *testing.T) {
	spread, err := schemas.LoadFS(folder("o.avsc", orderFile, "l.avsc", lineFile, "m.avsc", moneyFile, "k.avsc", kindFile))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := spread.Lookup("shop.Order")
	joined, err := schemas.LoadFS(folder("all.avsc", want.Text))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := joined.Lookup("shop.Order"); !ok || got.Fingerprint != want.Fingerprint {
		t.Fatalf("%+v", got)
	}
	text := strings.NewReplacer(`"Money"`, `"shop.Money"`, `"Kind"`, `"shop.Kind"`).Replace(orderFile)
	with, err := schemas.ParseWith(text, kindFile, moneyFile, lineFile)
	if err != nil || with.Fingerprint != want.Fingerprint {
		t.Fatalf("%+v, %v", with, err)
	}
}

func TestANullNamespaceInsideANamespaceIsKept(t *testing.T) {
	const text = `{"type":"record","name":"A","namespace":"shop","fields":[{"name":"x","type":{"type":"record","name":"B","namespace":"","fields":[]}}]}`
	s := parse(t, text)
	if again := parse(t, s.Text); again.Text != s.Text || !strings.Contains(s.Text, `"name":"B","namespace":""`) {
		t.Fatalf("%s\n%s", s.Text, again.Text)
	}
}

func TestLogicalTypesOfOthersAreMovedToTheirPlace(t *testing.T) {
	beside := parse(t, `{"type":"record","name":"A","fields":[{"name":"x","type":"long","logicalType":"timestamp-micros"}]}`)
	inside := parse(t, `{"type":"record","name":"A","fields":[{"name":"x","type":{"type":"long","logicalType":"timestamp-micros"}}]}`)
	if beside.Text != inside.Text {
		t.Fatal(beside.Text)
	}
}

func TestFingerprintsAreSixteenBytes(t *testing.T) {
	want := parse(t, base).Fingerprint
	got, err := schemas.ParseFingerprint(want[:])
	if err != nil || got != want || len(got.String()) != 32 {
		t.Fatalf("%s, %v", got, err)
	}
	if _, err := schemas.ParseFingerprint(want[:15]); err == nil {
		t.Fatal("15 bytes were taken")
	}
}

// Shuffling the keys of every object and the whitespace between them changes nothing.
func TestLayoutNeverMatters(t *testing.T) {
	want := parse(t, base)
	var tree any
	if err := json.Unmarshal([]byte(base), &tree); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := shuffled(t, tree)
		got, err := schemas.Parse(text)
		if err != nil || got.Fingerprint != want.Fingerprint {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

func shuffled(t *rapid.T, v any) string {
	space := rapid.SampledFrom([]string{"", " ", "\n\t"}).Draw(t, "space")
	var parts []string
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			parts = append(parts, shuffled(t, item))
		}
		return "[" + space + strings.Join(parts, space+",") + "]" + space
	case map[string]any:
		var keys []string
		for key := range v {
			keys = append(keys, key)
		}
		for _, key := range rapid.Permutation(keys).Draw(t, "keys") {
			parts = append(parts, `"`+key+`":`+space+shuffled(t, v[key]))
		}
		return "{" + space + strings.Join(parts, space+",") + "}"
	}
	text, _ := json.Marshal(v)
	return string(text)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "{", "[]", `"string"`, base, orderFile, moneyFile, `{"type":"record","name":"A","fields":[{"name":"x","type":["null","A"]}]}`,
		`{"type":"record","name":"A","fields":[{"name":"x","type":{"type":{"type":"int"}}}]}`, `{"type":{"type":"record"}}`,
		`{"type":"record","name":"A","fields":[{"name":"x","type":{"type":"fixed","name":"F","size":-1}}]}`,
		`{"type":"record","name":"A","fields":[{"name":"x","type":{"type":"bytes","logicalType":"decimal","precision":1e9,"scale":-1}}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := schemas.Parse(text)
		if err != nil {
			return
		}
		again, err := schemas.Parse(s.Text)
		if err != nil || again.Text != s.Text || again.Fingerprint != s.Fingerprint {
			t.Fatalf("the normal form is not stable: %v\n%s\n%+v", err, s.Text, again)
		}
		// A folder is stricter; it must not panic either, and what it takes must be the same schema.
		c, err := schemas.LoadFS(folder("a.avsc", text))
		if err != nil {
			return
		}
		if strict, ok := c.Lookup(s.Name); !ok || strict.Fingerprint != s.Fingerprint {
			t.Fatalf("as a file it is %+v, as text %+v", strict, s)
		}
	})
}
