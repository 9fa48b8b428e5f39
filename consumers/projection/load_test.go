package projection_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/schemas"
)

var _ fold.Projection = (*projection.Projection)(nil)

var update = flag.Bool("update", false, "write what was found into testdata")

func catalogue(t testing.TB) *schemas.Catalogue {
	t.Helper()
	c, err := schemas.LoadDir("testdata/schemas")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func account(t testing.TB) *projection.Projection {
	t.Helper()
	list, err := projection.Load(catalogue(t), "testdata/account.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// parse reads a declaration of the entity thing on the bank's topic.
func parse(t testing.TB, text string) (*projection.Projection, error) {
	t.Helper()
	return projection.Parse("thing.yaml", []byte("entity: thing\ntopic: bank.accounts\n"+text), catalogue(t))
}

// What is wrong with a declaration is said with file, line and column, and with what would be right. Each file of testdata/errors
// stands beside the message it gives.
func TestErrorsNameThePlace(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	c := catalogue(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = projection.Parse(filepath.Base(file), text, c)
			var perr *projection.Error
			if !errors.As(err, &perr) {
				t.Fatalf("got %v, want a *projection.Error", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n got %s\nwant %s", file, got, want)
	}
}

func TestColumnTypesComeFromSchemasAndExpressions(t *testing.T) {
	var b strings.Builder
	for _, c := range account(t).Columns() {
		b.WriteString(c.Name + " " + c.Type.String() + "\n")
	}
	golden(t, "testdata/account.columns.txt", b.String())
}

func TestTheVersionOfARowIsAColumn(t *testing.T) {
	p, err := parse(t, "on: {bank.Opened: {set: {owner: event.owner, row: version}}}\ncache: {version: row}\n")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := p.CacheVersion(projection.State{Exists: true, Values: []any{"ann", int64(3)}}); !ok || v != 3 {
		t.Errorf("%d, %v", v, ok)
	}
	if p, err = parse(t, "on: {bank.Opened: {set: {row: version}}}\n"); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.CacheVersion(projection.State{Exists: true, Values: []any{int64(3)}}); ok {
		t.Error("a version that was not declared")
	}
}

func TestLoadFindsFilesByPatternAndEntitiesOnce(t *testing.T) {
	c := catalogue(t)
	text := func(entity string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("entity: " + entity + "\ntopic: bank.accounts\non: {bank.Closed: {delete: true}}\n")}
	}
	fsys := fstest.MapFS{"p/b.yaml": text("zebra"), "p/a.yaml": text("ape"), "q/c.yaml": text("ape")}

	list, err := projection.LoadFS(fsys, c, "p/*.yaml", "p/a.yaml")
	if err != nil || len(list) != 2 || list[0].Entity() != "ape" || list[1].Entity() != "zebra" {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err = projection.LoadFS(fsys, c, "none/*.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pattern without files gives %v", err)
	}
	if _, err = projection.LoadFS(fsys, c, "p/*.yaml", "q/*.yaml"); err == nil || !strings.Contains(err.Error(), "declared in p/a.yaml already") {
		t.Errorf("an entity declared twice gives %v", err)
	}
}

func TestDigestFollowsWhatChangesStates(t *testing.T) {
	base := `
on:
  bank.Opened: {set: {owner: event.owner, note: "event.?note.orValue('x')"}}
  bank.Closed: {delete: true}
`
	want := digest(t, base)
	same := map[string]string{
		"comments and spacing": "\n# a comment\non:\n  bank.Closed:\n    delete: true\n  bank.Opened:\n    set:\n      owner:   event.owner # the owner\n      note: event . ? note .orValue( \"x\" )\n",
		"cache and search":     base + "cache: {keys: [\"'a:' + key\"]}\nsearch: {text: [note]}\n",
		"declared as inferred": "columns: {owner: text}\n" + base,
	}
	for name, text := range same {
		if got := digest(t, text); got != want {
			t.Errorf("%s change the digest", name)
		}
	}
	other := map[string]string{
		"another expression": strings.Replace(base, "'x'", "'y'", 1),
		"another type":       "columns: {owner: json}\n" + base,
		"another order":      "columns: {note: text}\n" + base,
		"another event":      strings.Replace(base, "  bank.Closed: {delete: true}\n", "", 1),
		"another column":     strings.Replace(base, "note:", "remark:", 1),
	}
	for name, text := range other {
		if digest(t, text) == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
}

func digest(t *testing.T, text string) string {
	t.Helper()
	p, err := parse(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return p.Digest()
}

func TestTypesAreSpelledAndRead(t *testing.T) {
	for _, text := range []string{"text", "int", "float", "bool", "decimal(12,2)", "decimal(38,38)", "timestamp", "date", "bytes", "json", "duration", "list(text)", "list(list(decimal(1,0)))"} {
		got, err := projection.ParseType(text)
		if err != nil || got.String() != text {
			t.Errorf("%s is read as %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "Text", "list", "decimal", "decimal(2)", "decimal(0,0)", "decimal(2,3)", "text(3)", "list(", "list(text", "list()", strings.Repeat("list(", 100) + "int" + strings.Repeat(")", 100)} {
		if got, err := projection.ParseType(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

func TestHostileTextEndsSoon(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("[", 1000), strings.Repeat("[\n", 20_000), strings.Repeat("{a:\n ", 10_000), strings.Repeat("- ", 200),
		strings.Repeat("a:\n", 10_000), strings.Repeat(" ", 100_000) + "a: b", "entity: " + strings.Repeat("x", 60_000),
		"on: {bank.Opened: {set: {a: \"" + strings.Repeat("(", 5000) + "\"}}}",
	} {
		if _, err := parse(t, text); err == nil {
			t.Errorf("%.20q was accepted", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	c := catalogue(f)
	files, _ := filepath.Glob("testdata/errors/*.yaml")
	for _, file := range append(files, "testdata/account.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := projection.Parse("f.yaml", []byte(text), c)
		if err == nil && (p.Entity() == "" || p.Topic() == "" || p.Digest() == "") {
			t.Errorf("an incomplete projection was accepted: %q", text)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "f.yaml") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}
