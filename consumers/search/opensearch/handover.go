package opensearch

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// handoverEvery is how often it is looked whether this generation has caught up with the one that serves.
const handoverEvery = time.Second

// handover is the change of the readers' aliases from an older generation to this one: all of them in one step, when there is no
// partition in which the older one is further.
type handover struct {
	mu sync.Mutex // guards the following
	// from is the generation that serves; 0 when this one does, or a later one.
	from int
	next time.Time
}

// generationOf finds the number at the end of an index's name.
var generationOf = regexp.MustCompile(`-g([1-9][0-9]{0,8})$`)

// existing is what readers see of an index: no stubs of deleted states.
var existing = object{"term": object{liveField: true}}

// startHandover finds out whether this generation has one to take over from. Where nobody serves, this one does.
func (s *Sink) startHandover(ctx context.Context, have map[string]found, serving map[string]int) error {
	var moves []object
	from := 0
	for entity, l := range s.layouts {
		_, before := have[l.index] // what was made just now has its alias
		switch generation := serving[entity]; {
		case generation == 0 && before:
			moves = append(moves, s.serve(entity, l))
		case generation < s.names.generation:
			from = max(from, generation)
		}
	}
	s.handover.from = from
	if len(moves) == 0 {
		return nil
	}
	return s.client.call(ctx, http.MethodPost, "/_aliases", object{"actions": moves}, nil)
}

// serving is the latest generation that the readers' alias of each entity stands for; none for an entity without readers.
func (s *Sink) serving(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	for entity := range s.layouts {
		var indices map[string]any
		err := s.client.call(ctx, http.MethodGet, "/_alias"+path(s.names.readers(entity)), nil, &indices)
		if err != nil && !has(err, http.StatusNotFound) {
			return nil, err
		}
		for name := range indices {
			if m := generationOf.FindStringSubmatch(name); m != nil {
				n, _ := strconv.Atoi(m[1]) // digits, and few
				out[entity] = max(out[entity], n)
			}
		}
	}
	return out, nil
}

// serve is the action that lets readers see an entity's index.
func (s *Sink) serve(entity string, l *layout) object {
	return object{"add": object{"index": l.index, "alias": s.names.readers(entity), "filter": existing}}
}

// look hands over if it is time. What goes wrong is tried again: the old generation serves meanwhile.
func (h *handover) look(ctx context.Context, s *Sink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.from == 0 || time.Now().Before(h.next) {
		return
	}
	h.next = time.Now().Add(handoverEvery)
	done, err := s.handOver(ctx, h.from)
	switch {
	case err != nil:
		s.log.Warn("the new generation cannot take over yet; it is tried again", "generation", s.names.generation, "serving", h.from, "err", err)
	case done:
		s.log.Info("the new generation serves readers now", "generation", s.names.generation, "before", h.from)
		h.from = 0
	}
}

// handOver moves every alias if this generation has caught up.
func (s *Sink) handOver(ctx context.Context, from int) (bool, error) {
	old := names{prefix: s.names.prefix, generation: from}
	theirs, err := s.positionsOf(ctx, ours(old.positions()))
	if err != nil && !has(err, http.StatusNotFound) { // its positions are gone: nobody goes on with it
		return false, err
	}
	mine, err := s.positionsOf(ctx, ours(s.names.positions()))
	if err != nil {
		return false, err
	}
	for tp, next := range theirs {
		if mine[tp] < next {
			return false, nil
		}
	}
	var moves []object
	for entity, l := range s.layouts {
		others := s.names.prefix + "-" + entity + "-g*"
		moves = append(moves, object{"remove": object{"index": others, "alias": s.names.readers(entity), "must_exist": false}}, s.serve(entity, l))
	}
	return true, s.client.call(ctx, http.MethodPost, "/_aliases", object{"actions": moves}, nil)
}
