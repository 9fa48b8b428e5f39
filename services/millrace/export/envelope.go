package export

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
	"github.com/millrace/millrace/schemas/avro/container"
)

// head is the envelope without its last field, the event: a union of the record types in the topic, then bytes, then null.
const head = `{"type":"record","name":"Record","namespace":"millrace.export","doc":"A record of a topic.","fields":[
	{"name":"topic","type":"string"},{"name":"partition","type":"int"},{"name":"offset","type":"long"},
	{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"key","type":["null","bytes"]},{"name":"headers","type":{"type":"map","values":"bytes"}}`

// envelope knows the schema of the file.
type envelope struct {
	schema string
	head   *avro.Codec
	// branches are by schema id.
	branches map[int]branch
	// raw and none are the union's branches for bytes, and for a record without a value.
	raw, none int64
}

// branch is how the payload of a schema id becomes a value of the union.
type branch struct {
	name  string
	index int64
	// writer reads what was written; resolved, where set, reads it in the layout of newest, the version that is in the file.
	writer, resolved, newest *avro.Codec
}

// newEnvelope resolves the ids. Of several versions of one type the newest is in the file; the others' records are brought to it.
func newEnvelope(ctx context.Context, cfg Config, ids map[int]bool) (*envelope, error) {
	e := &envelope{branches: map[int]branch{}}
	codecs := map[int]*avro.Codec{}
	newest := map[string]int{}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		text, err := lookup(ctx, cfg.Registry, id)
		if err != nil {
			return nil, err
		}
		c, err := avro.New(text)
		if text == "" || err != nil {
			continue // its records are kept as bytes
		}
		codecs[id], newest[c.Schema().Name] = c, id
	}
	names := slices.Sorted(maps.Keys(newest))
	var texts []*schemas.Schema
	for _, name := range names {
		texts = append(texts, codecs[newest[name]].Schema())
	}
	for id, c := range codecs {
		b := branch{name: c.Schema().Name, index: int64(slices.Index(names, c.Schema().Name)), writer: c, newest: codecs[newest[c.Schema().Name]]}
		if newest[b.name] != id {
			r, err := avro.Resolve(c, b.newest)
			if err != nil {
				continue // it does not fit the newest version: its records are kept as bytes
			}
			b.resolved = r
		}
		e.branches[id] = b
	}
	e.raw, e.none = int64(len(names)), int64(len(names))+1
	return e, e.compile(texts)
}

// compile builds the schema of the file.
func (e *envelope) compile(types []*schemas.Schema) error {
	union := []any{}
	seen := map[string]string{}
	for _, s := range types {
		var node any
		if err := json.Unmarshal([]byte(s.Text), &node); err != nil {
			return fmt.Errorf("schema %s: %w", s.Name, err)
		}
		node, err := once(node, seen)
		if err != nil {
			return fmt.Errorf("schema %s: %w", s.Name, err)
		}
		union = append(union, node)
	}
	text, err := json.Marshal(append(union, "bytes", "null"))
	if err != nil {
		return err
	}
	e.schema = head + `,{"name":"event","type":` + string(text) + `}]}`
	e.head, err = avro.New(head + "]}")
	return err
}

// once replaces a named type that was defined before by its name: a schema may define a name once. seen holds what was defined.
func once(node any, seen map[string]string) (any, error) {
	switch n := node.(type) {
	case []any:
		for i := range n {
			v, err := once(n[i], seen)
			if err != nil {
				return nil, err
			}
			n[i] = v
		}
		return n, nil
	case map[string]any:
		if name, ok := n["name"].(string); ok && n["type"] != nil && named[fmt.Sprint(n["type"])] {
			return define(n, name, seen)
		}
		return children(n, seen)
	}
	return node, nil
}

var named = map[string]bool{"record": true, "enum": true, "fixed": true}

func define(n map[string]any, name string, seen map[string]string) (any, error) {
	if ns, _ := n["namespace"].(string); ns != "" {
		name = ns + "." + name
	}
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	if before, ok := seen[name]; ok {
		if before != string(text) {
			return nil, fmt.Errorf("two of the topic's types define %s differently, and a file can hold one definition", name)
		}
		return name, nil
	}
	seen[name] = string(text)
	return children(n, seen)
}

// children looks into the parts of a type that can hold types.
func children(n map[string]any, seen map[string]string) (any, error) {
	for _, part := range []string{"type", "items", "values"} {
		if n[part] == nil {
			continue
		}
		v, err := once(n[part], seen)
		if err != nil {
			return nil, err
		}
		n[part] = v
	}
	fields, _ := n["fields"].([]any)
	for _, f := range fields {
		if m, ok := f.(map[string]any); ok {
			v, err := once(m["type"], seen)
			if err != nil {
				return nil, err
			}
			m["type"] = v
		}
	}
	return n, nil
}

// append writes one record. Avro binary has no frame of its own, so the event's payload is copied as it is.
func (e *envelope) append(w *container.Writer, r *kgo.Record, s *Stats) error {
	headers := map[string]any{}
	for _, h := range r.Headers {
		headers[strings.ToValidUTF8(h.Key, "\uFFFD")] = h.Value
	}
	v := map[string]any{"topic": r.Topic, "partition": int64(r.Partition), "offset": r.Offset, "timestamp": r.Timestamp.UTC(), "key": nil, "headers": headers}
	if r.Key != nil {
		v["key"] = r.Key
	}
	out, err := e.head.AppendEncode(nil, v)
	if err != nil {
		return fmt.Errorf("record %s/%d at %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	name, out := e.event(out, r.Value)
	s.Records++
	s.Types[name]++
	if name == Bytes {
		s.Raw++
	}
	if err := w.Append(out); err != nil {
		return fmt.Errorf("record %s/%d at %d: %w", r.Topic, r.Partition, r.Offset, err)
	}
	return nil
}

// event appends the record's value as a branch of the union, and returns its type.
func (e *envelope) event(out, value []byte) (string, []byte) {
	if value == nil {
		return None, appendLong(out, e.none)
	}
	id, payload, err := avro.SplitFrame(value)
	if b, ok := e.branches[id]; ok && err == nil {
		if body, err := b.body(payload); err == nil {
			return b.name, append(appendLong(out, b.index), body...)
		}
	}
	out = appendLong(out, e.raw)
	out = appendLong(out, int64(len(value)))
	return Bytes, append(out, value...)
}

// body is the payload in the layout that is in the file. It is decoded before it is trusted.
func (b branch) body(payload []byte) ([]byte, error) {
	if b.resolved == nil {
		_, err := b.writer.Decode(payload)
		return payload, err
	}
	v, err := b.resolved.Decode(payload)
	if err != nil {
		return nil, err
	}
	return b.newest.AppendEncode(nil, v)
}

// appendLong appends Avro's long: zig-zag, then seven bits a byte.
func appendLong(dst []byte, n int64) []byte {
	u := uint64(n<<1) ^ uint64(n>>63)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}
