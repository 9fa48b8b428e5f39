package opensearch

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/millrace/millrace/consumers/fold"
)

// existing is what readers see of an index: no stubs of deleted states.
var existing = object{"term": object{liveField: true}}

// shown is where the readers' alias of each entity points: its generation.
type shown map[string]int

// generation is the latest that serves; 0 if none does.
func (s shown) generation() int {
	latest := 0
	for _, n := range s {
		latest = max(latest, n)
	}
	return latest
}

// serving asks where the readers' aliases point, of all entities that there are or were.
func (s *Sink) serving(ctx context.Context) (shown, error) {
	var indices map[string]struct {
		Aliases map[string]json.RawMessage `json:"aliases"`
	}
	err := s.client.call(ctx, http.MethodGet, "/_alias/"+s.names.readers("*"), nil, &indices)
	if err != nil && !has(err, http.StatusNotFound) {
		return nil, err
	}
	out := shown{}
	for name, index := range indices {
		entity, generation, ok := s.names.parse(name)
		if _, ours := index.Aliases[s.names.readers(entity)]; ok && ours {
			out[entity] = max(out[entity], generation)
		}
	}
	return out, nil
}

// first says whether readers find this generation from its start on: the first one, where none serves yet, and the one that serves already.
func (s *Sink) first(serving shown) bool {
	now := serving.generation()
	return now == s.names.generation || now == 0 && s.names.generation == 1 && !s.cfg.Building
}

// show gives readers what they lack of the generation that serves: a start was cut short, or somebody has deleted an alias.
func (s *Sink) show(ctx context.Context, serving shown) error {
	if !s.first(serving) {
		return nil
	}
	var lacking []object
	for entity, l := range s.layouts {
		if serving[entity] == 0 {
			lacking = append(lacking, s.add(entity, l))
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return s.client.call(ctx, http.MethodPost, "/_aliases", object{"actions": lacking}, nil)
}

// add is the action that lets readers see an entity's index.
func (s *Sink) add(entity string, l *layout) object {
	return object{"add": object{"index": l.index, "alias": s.names.readers(entity), "filter": existing}}
}

// Serve implements fold.Generational: what Finish does, and then the readers' aliases of all entities move in one request. OpenSearch cannot compare positions in
// that step; they are compared before.
//
// Promise 8: readers find one generation or the other, whole.
func (s *Sink) Serve(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := s.Finish(ctx); err != nil {
		return err
	}
	if err := s.serve(ctx); err != nil {
		return fmt.Errorf("have generation %d of %s serve: %w", s.names.generation, s.names.prefix, classify(err))
	}
	return nil
}

func (s *Sink) serve(ctx context.Context) error {
	serving, err := s.serving(ctx)
	if err != nil {
		return err
	}
	if now := serving.generation(); now != 0 && now != s.names.generation {
		if err := s.behind(ctx, now); err != nil {
			return err
		}
	}
	if err := s.refreshAll(ctx); err != nil {
		return err
	}
	if err := s.crashAt("before serving"); err != nil {
		return err
	}
	var moves []object
	for entity, l := range s.layouts {
		moves = append(moves, object{"remove": object{"index": s.names.prefix + "-" + entity + "-g*", "alias": s.names.readers(entity), "must_exist": false}}, s.add(entity, l))
	}
	for entity, generation := range serving {
		if s.layouts[entity] == nil { // an entity that is no more
			was := names{s.names.prefix, generation}
			moves = append(moves, object{"remove": object{"index": was.index(entity), "alias": s.names.readers(entity), "must_exist": false}})
		}
	}
	if err := s.client.call(ctx, http.MethodPost, "/_aliases", object{"actions": moves}, nil); err != nil {
		return err
	}
	s.log.Info("a generation of the search indices serves", "prefix", s.names.prefix, "generation", s.names.generation, "before", serving.generation())
	return s.crashAt("after serving")
}

// behind returns ErrBehind if this generation has not come to where another one is.
func (s *Sink) behind(ctx context.Context, other int) error {
	theirs, err := s.positionsOf(ctx, ours(names{s.names.prefix, other}.positions()))
	if has(err, http.StatusNotFound) {
		return nil // its positions are gone: nobody goes on with it
	}
	if err != nil {
		return err
	}
	mine, err := s.positionsOf(ctx, ours(s.names.positions()))
	if err != nil {
		return err
	}
	topics := map[string]bool{}
	for _, l := range s.layouts {
		topics[l.topic] = true
	}
	for tp, next := range theirs {
		if now, ok := mine[tp]; topics[tp.Topic] && (!ok || now < next) {
			return fmt.Errorf("%w: %s/%d is at %d, in generation %d at %d", fold.ErrBehind, tp.Topic, tp.Partition, now, other, next)
		}
	}
	return nil
}

// Remove implements fold.Generational. All indices go in one request: what a crash leaves is a generation or none.
func (s *Sink) Remove(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := s.remove(ctx); err != nil {
		return fmt.Errorf("remove generation %d of %s: %w", s.names.generation, s.names.prefix, classify(err))
	}
	s.log.Info("a generation of the search indices was removed", "prefix", s.names.prefix, "generation", s.names.generation)
	return nil
}

func (s *Sink) remove(ctx context.Context) error {
	serving, err := s.serving(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(slices.Collect(maps.Values(serving)), s.names.generation) {
		return fold.ErrServing
	}
	if err := s.crashAt("before the removal"); err != nil {
		return err
	}
	indices := append(s.indices(), s.names.positions())
	if err := s.client.call(ctx, http.MethodDelete, path(strings.Join(indices, ","))+"?ignore_unavailable=true", nil, nil); err != nil {
		return err
	}
	if err := s.crashAt("without indices"); err != nil {
		return err
	}
	for _, index := range s.indices() {
		err := s.client.call(ctx, http.MethodDelete, "/_index_template"+path(index), nil, nil)
		if has(err, http.StatusForbidden) {
			s.log.Warn("an index template cannot be removed; it does no harm", "template", index, "err", err)
		} else if err != nil && !has(err, http.StatusNotFound) {
			return err
		}
	}
	return nil
}

// indices are those of the entities.
func (s *Sink) indices() []string {
	var out []string
	for _, l := range s.layouts {
		out = append(out, l.index)
	}
	slices.Sort(out)
	return out
}

// refreshAll makes what was written visible to searches.
func (s *Sink) refreshAll(ctx context.Context) error {
	return s.client.call(ctx, http.MethodPost, path(strings.Join(s.indices(), ","))+"/_refresh", nil, nil)
}

// ServingGeneration is the generation that readers' aliases lead to; 0 if there is none yet. It makes nothing.
func ServingGeneration(ctx context.Context, cfg Config) (int, error) {
	cfg = cfg.WithDefaults()
	cl, err := newClient(cfg)
	if err != nil {
		return 0, fmt.Errorf("opensearch: %w", err)
	}
	defer cl.close()
	s := &Sink{cfg: cfg, log: cfg.Logger, client: cl, names: names{prefix: cfg.Prefix, generation: 1}}
	now, err := s.serving(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask which generation of the search indices %s serves: %w", cfg.Prefix, classify(err))
	}
	return now.generation(), nil
}

// RemoveGeneration removes a generation of these entities that nobody can open any more, for its declarations are gone; see Remove.
func RemoveGeneration(ctx context.Context, cfg Config, entities []string) error {
	cfg = cfg.WithDefaults()
	cl, err := newClient(cfg)
	if err != nil {
		return fmt.Errorf("opensearch: %w", err)
	}
	defer cl.close()
	s := &Sink{cfg: cfg, log: cfg.Logger, client: cl, names: names{prefix: cfg.Prefix, generation: cfg.Generation}, layouts: map[string]*layout{}}
	for _, entity := range entities {
		s.layouts[entity] = &layout{index: s.names.index(entity)}
	}
	if err := s.remove(ctx); err != nil {
		return fmt.Errorf("remove generation %d of %s: %w", cfg.Generation, cfg.Prefix, classify(err))
	}
	return nil
}
