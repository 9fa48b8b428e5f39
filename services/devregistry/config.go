package devregistry

import (
	"net/http"
	"slices"
)

func (s *Server) config(r *http.Request) (any, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	level := s.store.Level
	if name := r.PathValue("subject"); name != "" {
		sub := s.store.Subjects[name]
		switch {
		case sub != nil && sub.Level != "":
			level = sub.Level
		case !flag(r, "defaultToGlobal"):
			return nil, noSubjectConfig(name)
		}
	}
	return map[string]string{"compatibilityLevel": level}, nil
}

func (s *Server) setConfig(r *http.Request) (any, error) {
	req, err := body[struct {
		Level string `json:"compatibility"`
	}](r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(levels, req.Level) {
		return nil, invalidLevel(req.Level)
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	name := r.PathValue("subject")
	switch sub := s.store.Subjects[name]; {
	case name == "":
		s.store.Level = req.Level
	case sub != nil:
		sub.Level = req.Level
	case len(name) > maxSubjectLength || len(s.store.Subjects) >= maxSchemas:
		return nil, badRequest("the subject's name is too long, or there are too many subjects")
	default:
		s.store.Subjects[name] = &subject{Level: req.Level}
	}
	return map[string]string{"compatibility": req.Level}, s.store.keep()
}

func (s *Server) deleteConfig(r *http.Request) (any, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	name := r.PathValue("subject")
	sub := s.store.Subjects[name]
	if sub == nil || sub.Level == "" {
		return nil, noSubjectConfig(name)
	}
	old := sub.Level
	sub.Level = ""
	return map[string]string{"compatibilityLevel": old}, s.store.keep()
}

func (s *Server) mode(*http.Request) (any, error) {
	return map[string]string{"mode": "READWRITE"}, nil
}
