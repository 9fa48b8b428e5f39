package doctor

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/services/relay"
)

// partitionsOf makes up a topic: each partition by its leader, its replicas and those of them that are in sync.
func partitionsOf(partitions ...kadm.PartitionDetail) *kadm.TopicDetail {
	d := &kadm.TopicDetail{Partitions: kadm.PartitionDetails{}}
	for i, p := range partitions {
		p.Partition = int32(i)
		d.Partitions[int32(i)] = p
	}
	return d
}

// What takes several brokers, one of which is in trouble, is made up.
func TestFaultsOfTopicsOnManyBrokers(t *testing.T) {
	t.Parallel()
	const brokers = 3
	whole := kadm.PartitionDetail{Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}}
	behind := kadm.PartitionDetail{Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 3}}
	headless := kadm.PartitionDetail{Leader: -1, Replicas: []int32{1, 2, 3}, ISR: []int32{2}}
	for _, c := range []struct {
		name     string
		have     *kadm.TopicDetail
		configs  map[string]string
		check    string
		severity Severity
		what     string
		mend     string
	}{
		{"all is well", partitionsOf(whole, whole), nil, "in sync", OK, "all replicas", ""},
		{"a replica lags", partitionsOf(whole, behind), nil, "in sync", Warning, "1 of 2 partitions lack", "--under-replicated-partitions"},
		{"a partition has no leader", partitionsOf(behind, headless), nil, "in sync", Error, "1 of 2 partitions have no leader", "start the brokers"},
		{"one replica", partitionsOf(kadm.PartitionDetail{Leader: 1, Replicas: []int32{1}, ISR: []int32{1}}), nil, "replication", Warning, "replication 1, of 3 brokers", "kafka-reassign-partitions.sh"},
		{"no replica may be away", partitionsOf(whole), map[string]string{"min.insync.replicas": "3"}, "min.insync.replicas", Warning, "is 3, of 3", "min.insync.replicas=2"},
		{"one replica will do", partitionsOf(whole), map[string]string{"min.insync.replicas": "1"}, "min.insync.replicas", Warning, "is 1, of 3", "min.insync.replicas=2"},
		{"two of three", partitionsOf(whole), map[string]string{"min.insync.replicas": "2"}, "min.insync.replicas", OK, "is 2, of 3", ""},
		{"a bound in bytes", partitionsOf(whole), map[string]string{"retention.ms": "-1", "retention.bytes": "1000"}, "retention.ms", Warning, "retention.bytes is 1000", "retention.bytes=-1"},
		{"it cannot be looked at", &kadm.TopicDetail{Err: kerr.UnknownServerError}, nil, "topic", Error, "UNKNOWN_SERVER_ERROR", "brokers that have it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			on := &topic{cluster: &cluster{meta: kadm.Metadata{Brokers: make(kadm.BrokerDetails, brokers)}}, outbox: shopOutbox().WithDefaults(), name: "orders",
				want: relay.Topic{Partitions: len(c.have.Partitions)}, have: c.have, configs: c.configs}
			Report{examine(t.Context(), "kafka", "shop", on, topicChecks)}.wants(t, c.check, c.severity, c.what, c.mend)
		})
	}
}

// A check that cannot look says so, and keeps nobody from the rest.
func TestWhatCannotBeLookedAtIsAFinding(t *testing.T) {
	t.Parallel()
	r := Report{examine(t.Context(), "postgres", "shop", 0, []check[int]{
		{"locked", func(context.Context, int) ([]Finding, error) { return nil, errors.New("the door is locked") }},
		{"open", func(context.Context, int) ([]Finding, error) { return fine("it is there"), nil }},
	})}
	r.wants(t, "locked", Warning, "the door is locked", "millrace doctor")
	r.wants(t, "open", OK, "it is there", "")
}

// Each finding that matters says why it does and what mends it: in the text of the checks themselves, for some of them take a server
// that no test has.
func TestEveryFindingSaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			whole := true
			switch n := n.(type) {
			case *ast.CallExpr:
				if isName(n.Fun, "found") {
					seen++
					whole = !empty(n.Args[1]) && !empty(n.Args[2]) && (!empty(n.Args[3]) || isName(n.Args[0], "Note"))
				}
			case *ast.CompositeLit:
				whole = !sets(n, "Severity", "Warning", "Error") || sets(n, "What") && sets(n, "Why") && sets(n, "Mend")
			}
			if !whole {
				t.Errorf("%s: half a finding: what was found, why it matters and what mends it belong together", set.Position(n.Pos()))
			}
			return true
		})
	}
	if seen < 40 {
		t.Errorf("only %d findings were looked at", seen)
	}
}

func empty(e ast.Expr) bool {
	text, ok := e.(*ast.BasicLit)
	return ok && text.Value == `""`
}

func isName(e ast.Expr, names ...string) bool {
	id, ok := e.(*ast.Ident)
	return ok && slices.Contains(names, id.Name)
}

// sets says whether a literal sets a field, to one of the given names if there are any.
func sets(l *ast.CompositeLit, field string, names ...string) bool {
	for _, e := range l.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok && isName(pair.Key, field) {
			return len(names) == 0 || isName(pair.Value, names...)
		}
	}
	return false
}
