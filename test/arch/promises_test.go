package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// promises are those of the project that are upheld by now, in the words that a test of each carries.
var promises = map[int]string{
	1: "Nothing invented, nothing lost",
	2: "Order",
	3: "Exactly once in Kafka",
	4: "Exactly once in effect in every sink",
	5: "A stranger's long transaction delays only its own events",
	6: "No write amplification on the application's database",
	7: "A bad event never stops the stream",
	8: "Every sink can be rebuilt while the old one serves",
}

// Whoever looks for "Promise N" finds the code that upholds it, and a test whose comment says it in words.
func TestEveryPromiseIsFoundInCodeAndTests(t *testing.T) {
	code, tests := map[int]string{}, map[int]string{}
	for _, f := range load(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", f.dir, f.name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if f.test() {
			for _, d := range parsed.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil && strings.HasPrefix(fn.Name.Name, "Test") {
					cite(tests, promises, fn.Doc.Text(), f.dir+": "+fn.Name.Name)
				}
			}
			continue
		}
		if in(f.dir, "test") {
			continue
		}
		for _, c := range parsed.Comments {
			cite(code, nil, c.Text(), f.dir+"/"+f.name)
		}
	}
	for n, words := range promises {
		if code[n] == "" {
			t.Errorf("no code says that it upholds Promise %d (%s)", n, words)
		}
		if tests[n] == "" {
			t.Errorf("no test carries the words of Promise %d: %s", n, words)
		}
		t.Logf("Promise %d, %s: %s; %s", n, words, code[n], tests[n])
	}
}

// cite notes where a comment cites promises, and with words: where it says them as well.
func cite(found map[int]string, words map[int]string, comment, where string) {
	text := strings.ToLower(strings.Join(strings.Fields(comment), " "))
	for n := range promises {
		want := "promise " + strconv.Itoa(n) + ":"
		if words != nil {
			want += " " + strings.ToLower(words[n])
		}
		if found[n] == "" && strings.Contains(text, want) {
			found[n] = where
		}
	}
}
