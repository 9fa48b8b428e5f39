// Package arch holds the import rules of the tree, so that nobody has to remember them.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/millrace/millrace/"

// file is one Go file: where it stands and what it imports.
type file struct {
	dir, name string
	imports   []string
	doc       string
	pkg       string
}

func (f file) test() bool { return strings.HasSuffix(f.name, "_test.go") }

// in says whether dir is root or below it.
func in(dir string, roots ...string) bool {
	for _, r := range roots {
		if dir == r || strings.HasPrefix(dir, r+"/") {
			return true
		}
	}
	return false
}

func load(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		f := file{dir: filepath.ToSlash(filepath.Dir(rel)), name: d.Name(), pkg: parsed.Name.Name, doc: docOf(parsed)}
		for _, i := range parsed.Imports {
			f.imports = append(f.imports, strings.Trim(i.Path.Value, `"`))
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files found: the walk is wrong", len(out))
	}
	return out
}

func docOf(f *ast.File) string {
	if f.Doc == nil {
		return ""
	}
	return f.Doc.Text()
}

// ours is the folder of an import of this module; "" for any other.
func ours(path string) string {
	if !strings.HasPrefix(path, module) {
		return ""
	}
	return strings.TrimPrefix(path, module)
}

func TestImportRules(t *testing.T) {
	for _, f := range load(t) {
		for _, path := range f.imports {
			to := ours(path)
			if to == "" {
				continue
			}
			if reason := forbidden(f, to); reason != "" {
				t.Errorf("%s/%s imports %s: %s", f.dir, f.name, to, reason)
			}
		}
	}
}

func forbidden(f file, to string) string {
	switch {
	case in(f.dir, "test"):
		return ""
	case in(to, "test"):
		if f.test() {
			return ""
		}
		return "product code does not import its tests"
	case f.test() && in(to, "services/internal", "services/devregistry"):
		return ""
	case in(f.dir, "internal"):
		return "internal is for the whole tree, and imports nothing of ours"
	case in(to, "internal") && !in(f.dir, "schemas"):
		return ""
	case in(to, "schemas/shop", "services/shop") && !in(f.dir, "services/shop", "services/millrace", "schemas/shop") && !f.test():
		return "nothing in the product knows the example domain"
	case in(f.dir, "schemas") && !in(to, "schemas"):
		return "schemas imports nothing of ours"
	case in(f.dir, "outbox") && !in(to, "schemas", "outbox"):
		return "outbox imports schemas and nothing else of ours"
	case in(f.dir, "consumers") && !in(to, "schemas", "consumers"):
		return "consumers knows neither outbox nor services"
	case in(f.dir, "services") && in(to, "services") && !in(f.dir, "services/millrace") && !in(to, "services/internal") && !same(f.dir, to):
		return "services never import each other; services/millrace wires"
	case in(f.dir, "services/internal") && in(to, "outbox", "consumers"):
		return "services/internal is for what every service shares"
	}
	return ""
}

// same says whether two folders belong to one service.
func same(a, b string) bool {
	service := func(d string) string { return strings.Join(strings.SplitN(d, "/", 3)[:2], "/") }
	return service(a) == service(b)
}

// A program that only writes events links no Kafka client, no registry client and no cgo.
func TestWritingEventsIsLight(t *testing.T) {
	heavy := []string{"github.com/twmb/franz-go", "github.com/riferrei", "github.com/linkedin", "github.com/duckdb", "github.com/blevesearch", "github.com/redis",
		"github.com/prometheus", "cel.dev", "github.com/spf13", "github.com/goccy", "C"}
	byDir := map[string][]file{}
	for _, f := range load(t) {
		if !f.test() {
			byDir[f.dir] = append(byDir[f.dir], f)
		}
	}
	seen := map[string]bool{}
	var visit func(dir, via string)
	visit = func(dir, via string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		for _, f := range byDir[dir] {
			for _, path := range f.imports {
				for _, h := range heavy {
					if path == h || strings.HasPrefix(path, h+"/") {
						t.Errorf("%s imports %s (reached through %s)", f.dir, path, via)
					}
				}
				if to := ours(path); to != "" {
					visit(to, via+" -> "+to)
				}
			}
		}
	}
	visit("outbox", "outbox")
	if !seen["schemas"] || !seen["outbox/store"] {
		t.Errorf("visited only %v", seen)
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	doc := map[string]bool{}
	for _, f := range load(t) {
		if !doc[f.dir] && !f.test() {
			doc[f.dir] = strings.HasPrefix(f.doc, "Package "+f.pkg+" ") || f.pkg == "main" && f.doc != ""
		}
	}
	var missing []string
	for dir, ok := range doc {
		if !ok {
			missing = append(missing, dir)
		}
	}
	sort.Strings(missing)
	if len(missing) > 0 {
		t.Errorf("no package comment of the form \"Package NAME ...\" in %q", missing)
	}
}

func TestEveryTopLevelFolderSaysWhatLivesThere(t *testing.T) {
	for _, dir := range []string{"schemas", "outbox", "services", "consumers", "internal", "deploy", "test"} {
		found := false
		for _, name := range []string{"README.md", "doc.go"} {
			if _, err := os.Stat(filepath.Join("..", "..", dir, name)); err == nil {
				found = true
			}
		}
		if !found {
			t.Errorf("%s has neither README.md nor doc.go", dir)
		}
	}
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !in(e.Name(), "schemas", "outbox", "services", "consumers", "internal", "deploy", "test", "bin") {
			t.Errorf("unexpected top-level folder %s", e.Name())
		}
	}
}
