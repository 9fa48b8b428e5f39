package devregistry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	lib "github.com/twmb/avro"
)

const (
	maxSchemaBytes   = 1 << 20
	maxSubjectLength = 512
	maxReferences    = 64
	maxSchemas       = 10_000
)

// reference is how one schema names another that it needs.
type reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// content is a schema under its id. An id stands for one content, whichever subjects have it.
type content struct {
	ID         int         `json:"id"`
	Text       string      `json:"schema"`
	References []reference `json:"references,omitempty"`

	identity string
	compiled *lib.Schema
}

type version struct {
	Number  int  `json:"version"`
	ID      int  `json:"id"`
	Deleted bool `json:"deleted,omitempty"`
}

type subject struct {
	Versions []version `json:"versions"`
	Level    string    `json:"compatibility,omitempty"`
}

func (s *subject) live() []version {
	return slices.DeleteFunc(slices.Clone(s.Versions), func(v version) bool { return v.Deleted })
}

// store is what the registry knows. Deleted versions and unused contents stay: ids in topics must remain readable.
type store struct {
	save func(snapshot) error // nil: nothing is kept

	mu sync.Mutex // guards the following
	snapshot
	byIdentity map[string]*content
}

// snapshot is what is kept in the file.
type snapshot struct {
	Level    string              `json:"compatibility"`
	Contents []*content          `json:"schemas"` // content n has id n+1
	Subjects map[string]*subject `json:"subjects"`
}

func newStore(level string) *store {
	return &store{
		snapshot:   snapshot{Level: level, Subjects: map[string]*subject{}},
		byIdentity: map[string]*content{},
	}
}

// identify gives texts that differ in whitespace and the order of keys only the same identity.
func identify(text string, refs []reference) (string, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return "", err
	}
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode([]any{v, refs}); err != nil {
		return "", err
	}
	return buf.String(), nil
}

// compile checks a schema together with what it refers to. The lock must be held.
func (st *store) compile(text string, refs []reference) (*content, error) {
	if len(text) > maxSchemaBytes {
		return nil, invalidSchema(fmt.Sprintf("larger than %d bytes", maxSchemaBytes))
	}
	// Clients send the name of a primitive type without quotes as well.
	if plain := strings.TrimSpace(text); plain != "" && !strings.ContainsAny(plain, "\"{}[] \t\n") {
		text = strconv.Quote(plain)
	}
	identity, err := identify(text, refs)
	if err != nil {
		return nil, invalidSchema(err.Error())
	}
	if known, ok := st.byIdentity[identity]; ok {
		return known, nil
	}
	cache := &lib.SchemaCache{}
	if err := st.load(cache, refs, map[reference]bool{}); err != nil {
		return nil, err
	}
	compiled, err := cache.Parse(text)
	if err != nil {
		return nil, invalidSchema(err.Error())
	}
	return &content{Text: text, References: refs, identity: identity, compiled: compiled}, nil
}

// load puts the referenced schemas into cache, those they need first.
func (st *store) load(cache *lib.SchemaCache, refs []reference, seen map[reference]bool) error {
	for _, ref := range refs {
		ref.Name = ""
		if seen[ref] {
			continue
		}
		if seen[ref] = true; len(seen) > maxReferences {
			return invalidSchema(fmt.Sprintf("more than %d references", maxReferences))
		}
		c, _, err := st.find(ref.Subject, strconv.Itoa(ref.Version), false)
		if err != nil {
			return invalidSchema(fmt.Sprintf("no version %d of the referenced subject %s", ref.Version, ref.Subject))
		}
		if err := st.load(cache, c.References, seen); err != nil {
			return err
		}
		if _, err := cache.Parse(c.Text); err != nil {
			return invalidSchema(err.Error())
		}
	}
	return nil
}

// register puts a schema under a subject and returns it.
func (st *store) register(name, text string, refs []reference) (*content, version, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if name == "" || len(name) > maxSubjectLength {
		return nil, version{}, badRequest("the subject's name is empty or too long")
	}
	c, err := st.compile(text, refs)
	if err != nil {
		return nil, version{}, err
	}
	sub := st.Subjects[name]
	if sub == nil {
		sub = &subject{}
	}
	for _, v := range sub.live() {
		if v.ID == c.ID {
			return c, v, nil
		}
	}
	if reasons := st.incompatible(c, sub.live(), st.levelOf(sub)); len(reasons) > 0 {
		return nil, version{}, fail(409, 409, "Schema being registered is incompatible with an earlier schema for subject \"%s\", details: [%s]", name, strings.Join(reasons, "; "))
	}
	if err := st.number(c); err != nil {
		return nil, version{}, err
	}
	v := version{Number: sub.next(), ID: c.ID}
	sub.Versions = append(sub.Versions, v)
	st.Subjects[name] = sub
	return c, v, st.keep()
}

// number gives a new content its id.
func (st *store) number(c *content) error {
	if c.ID != 0 {
		return nil
	}
	if len(st.Contents) >= maxSchemas {
		return badRequest(fmt.Sprintf("the registry is full: %d schemas", maxSchemas))
	}
	c.ID = len(st.Contents) + 1
	st.Contents = append(st.Contents, c)
	st.byIdentity[c.identity] = c
	return nil
}

func (s *subject) next() int {
	if len(s.Versions) == 0 {
		return 1
	}
	return s.Versions[len(s.Versions)-1].Number + 1
}

func (st *store) levelOf(sub *subject) string {
	if sub != nil && sub.Level != "" {
		return sub.Level
	}
	return st.Level
}

// incompatible checks c against versions, of which a level that is not transitive takes the newest.
func (st *store) incompatible(c *content, versions []version, level string) []string {
	if !transitive(level) && len(versions) > 1 {
		versions = versions[len(versions)-1:]
	}
	var reasons []string
	for _, v := range versions {
		older := st.Contents[v.ID-1]
		reasons = append(reasons, check(level, c.compiled, older.compiled, fmt.Sprintf("version %d", v.Number))...)
	}
	return reasons
}

// find returns a version of a subject by its number, "latest" or "-1". The lock must be held.
func (st *store) find(name, number string, withDeleted bool) (*content, version, error) {
	sub, ok := st.Subjects[name]
	if !ok {
		return nil, version{}, noSubject(name)
	}
	versions := sub.live()
	if withDeleted {
		versions = sub.Versions
	}
	if len(versions) == 0 {
		return nil, version{}, noSubject(name)
	}
	if number == "latest" || number == "-1" {
		v := versions[len(versions)-1]
		return st.Contents[v.ID-1], v, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return nil, version{}, invalidVersion(number)
	}
	for _, v := range versions {
		if v.Number == n {
			return st.Contents[v.ID-1], v, nil
		}
	}
	return nil, version{}, noVersion(number)
}

func (st *store) keep() error {
	if st.save == nil {
		return nil
	}
	if err := st.save(st.snapshot); err != nil {
		return fail(500, 50001, "Error in the backend data store: %s", err)
	}
	return nil
}
