package devregistry

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// request is the body that comes with a schema.
type request struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType"`
	References []reference `json:"references"`
}

// named is a schema as it stands under a subject.
type named struct {
	Subject    string      `json:"subject"`
	Version    int         `json:"version"`
	ID         int         `json:"id"`
	References []reference `json:"references,omitempty"`
	Schema     string      `json:"schema"`
}

func body[T any](r *http.Request) (v T, err error) {
	err = json.NewDecoder(r.Body).Decode(&v)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return v, fail(http.StatusRequestEntityTooLarge, 413, "the request is larger than %d bytes", large.Limit)
	}
	if err != nil {
		return v, badRequest("the request is not the JSON that was expected: " + err.Error())
	}
	return v, nil
}

func schemaBody(r *http.Request) (request, error) {
	req, err := body[request](r)
	if err != nil {
		return req, err
	}
	if req.SchemaType != "" && req.SchemaType != "AVRO" {
		return req, invalidSchema("this registry knows schemas of type AVRO only")
	}
	if len(req.References) == 0 {
		req.References = nil
	}
	return req, nil
}

func flag(r *http.Request, name string) bool { return r.URL.Query().Get(name) == "true" }

func (s *Server) subjects(r *http.Request) (any, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	names := []string{}
	for name, sub := range s.store.Subjects {
		if strings.HasPrefix(name, r.URL.Query().Get("subjectPrefix")) && (flag(r, "deleted") || len(sub.live()) > 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *Server) register(r *http.Request) (any, error) {
	req, err := schemaBody(r)
	if err != nil {
		return nil, err
	}
	c, _, err := s.store.register(r.PathValue("subject"), req.Schema, req.References)
	if err != nil {
		return nil, err
	}
	return map[string]int{"id": c.ID}, nil
}

func (s *Server) lookup(r *http.Request) (any, error) {
	req, err := schemaBody(r)
	if err != nil {
		return nil, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	name := r.PathValue("subject")
	sub := s.store.Subjects[name]
	if sub == nil || len(sub.live()) == 0 && !flag(r, "deleted") {
		return nil, noSubject(name)
	}
	c, err := s.store.compile(req.Schema, req.References)
	if err != nil {
		return nil, err
	}
	for _, v := range sub.Versions {
		if v.ID == c.ID && (!v.Deleted || flag(r, "deleted")) {
			return named{Subject: name, Version: v.Number, ID: c.ID, References: c.References, Schema: c.Text}, nil
		}
	}
	return nil, noSchema()
}

func (s *Server) versions(r *http.Request) (any, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	sub := s.store.Subjects[r.PathValue("subject")]
	if sub == nil {
		return nil, noSubject(r.PathValue("subject"))
	}
	versions := sub.live()
	if flag(r, "deleted") {
		versions = sub.Versions
	}
	if len(versions) == 0 {
		return nil, noSubject(r.PathValue("subject"))
	}
	return numbers(versions), nil
}

func (s *Server) find(r *http.Request) (named, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	name := r.PathValue("subject")
	c, v, err := s.store.find(name, r.PathValue("version"), flag(r, "deleted"))
	if err != nil {
		return named{}, err
	}
	return named{Subject: name, Version: v.Number, ID: c.ID, References: c.References, Schema: c.Text}, nil
}

func (s *Server) version(r *http.Request) (any, error) { return s.find(r) }

func (s *Server) versionText(r *http.Request) (any, error) {
	n, err := s.find(r)
	return json.RawMessage(n.Schema), err
}

func (s *Server) deleteSubject(r *http.Request) (any, error) {
	return s.store.deleteSubject(r.PathValue("subject"), flag(r, "permanent"))
}

func (s *Server) deleteVersion(r *http.Request) (any, error) {
	return s.store.deleteVersion(r.PathValue("subject"), r.PathValue("version"), flag(r, "permanent"))
}

func (s *Server) content(r *http.Request) (*content, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 1 || id > len(s.store.Contents) {
		return nil, noSchema()
	}
	return s.store.Contents[id-1], nil
}

func (s *Server) schema(r *http.Request) (any, error) {
	c, err := s.content(r)
	if err != nil {
		return nil, err
	}
	return struct {
		Schema     string      `json:"schema"`
		References []reference `json:"references,omitempty"`
	}{c.Text, c.References}, nil
}

func (s *Server) schemaText(r *http.Request) (any, error) {
	c, err := s.content(r)
	if err != nil {
		return nil, err
	}
	return json.RawMessage(c.Text), nil
}

// uses lists where a content stands.
func (s *Server) uses(r *http.Request) ([]named, error) {
	c, err := s.content(r)
	if err != nil {
		return nil, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	uses := []named{}
	for name, sub := range s.store.Subjects {
		for _, v := range sub.Versions {
			if v.ID == c.ID && (!v.Deleted || flag(r, "deleted")) {
				uses = append(uses, named{Subject: name, Version: v.Number})
			}
		}
	}
	slices.SortFunc(uses, func(a, b named) int { return strings.Compare(a.Subject, b.Subject) })
	return uses, nil
}

func (s *Server) schemaVersions(r *http.Request) (any, error) {
	uses, err := s.uses(r)
	type pair struct {
		Subject string `json:"subject"`
		Version int    `json:"version"`
	}
	pairs := []pair{}
	for _, u := range uses {
		pairs = append(pairs, pair{u.Subject, u.Version})
	}
	return pairs, err
}

func (s *Server) schemaSubjects(r *http.Request) (any, error) {
	uses, err := s.uses(r)
	names := []string{}
	for _, u := range uses {
		names = append(names, u.Subject)
	}
	return slices.Compact(names), err
}

// compatible checks a schema against one version, or, without one in the path, against all that the level names.
func (s *Server) compatible(r *http.Request) (any, error) {
	req, err := schemaBody(r)
	if err != nil {
		return nil, err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	c, err := s.store.compile(req.Schema, req.References)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("subject")
	sub := s.store.Subjects[name]
	var versions []version
	if number := r.PathValue("version"); number != "" {
		_, v, err := s.store.find(name, number, false)
		if err != nil {
			return nil, err
		}
		versions = []version{v}
	} else if sub != nil {
		versions = sub.live()
	}
	reasons := s.store.incompatible(c, versions, s.store.levelOf(sub))
	answer := map[string]any{"is_compatible": len(reasons) == 0}
	if flag(r, "verbose") {
		answer["messages"] = append([]string{}, reasons...)
	}
	return answer, nil
}
