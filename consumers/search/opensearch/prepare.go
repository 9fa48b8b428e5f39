package opensearch

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// declarationID is the document, in the index of positions, that says what built the indices. Partitions have a colon in theirs.
const declarationID = "declaration"

// declaration is that document. It is written last: a start that was cut short is taken up again.
type declaration struct {
	Entities map[string]declared `json:"entities"`
	// Restore says, by entity, what Finish restores of a generation that is being built; nil of others.
	Restore map[string]copies `json:"restore,omitempty"`
}

type declared struct {
	Digest string `json:"digest"`
	// UUID is that of the index, which another one by the same name does not have.
	UUID string `json:"uuid"`
}

// found is what the cluster says of an index.
type found struct {
	Aliases  map[string]json.RawMessage `json:"aliases"`
	Mappings struct {
		Meta struct {
			Millrace struct {
				Digest   string `json:"digest"`
				Revision int    `json:"revision"`
			} `json:"millrace"`
		} `json:"_meta"`
	} `json:"mappings"`
	Settings struct {
		Index struct {
			copies
			UUID    string `json:"uuid"`
			Refresh string `json:"refresh_interval"`
		} `json:"index"`
	} `json:"settings"`
}

// prepare makes what is missing and refuses what does not belong together.
func (s *Sink) prepare(ctx context.Context) error {
	have, err := s.look(ctx)
	if err != nil {
		return err
	}
	was, known, err := s.readDeclaration(ctx, have)
	if err != nil {
		return err
	}
	serving, err := s.serving(ctx)
	if err != nil {
		return err
	}
	if known {
		err = s.check(was, have)
		if errors.Is(err, ErrDeclaration) {
			known, err = s.forget(ctx, was, err)
			have = map[string]found{}
		}
	}
	if !known && err == nil {
		was, err = s.create(ctx, have, s.first(serving))
	}
	if err != nil {
		return err
	}
	if err := s.adjust(ctx, have, was); err != nil {
		return err
	}
	return s.show(ctx, serving)
}

// look asks for the indices of this generation that there are.
func (s *Sink) look(ctx context.Context) (map[string]found, error) {
	list := []string{s.names.positions()}
	for _, l := range s.layouts {
		list = append(list, l.index)
	}
	slices.Sort(list)
	out := map[string]found{}
	err := s.client.call(ctx, http.MethodGet, path(strings.Join(list, ","))+"?ignore_unavailable=true", nil, &out)
	return out, err
}

func (s *Sink) readDeclaration(ctx context.Context, have map[string]found) (d declaration, known bool, err error) {
	if _, ok := have[s.names.positions()]; !ok {
		return d, false, nil
	}
	r, err := s.getRecord(ctx, declarationID)
	if err != nil || !r.Found {
		return d, false, err
	}
	d, err = r.declaration()
	return d, err == nil, err
}

// check holds that the same declarations made these indices, and that they are still the same.
func (s *Sink) check(was declaration, have map[string]found) error {
	if names := slices.Sorted(maps.Keys(was.Entities)); !slices.Equal(names, slices.Sorted(maps.Keys(s.layouts))) {
		return systemicf("%w: they hold %s", ErrDeclaration, strings.Join(names, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(s.layouts)) {
		l, d := s.layouts[name], was.Entities[name]
		index, ok := have[l.index]
		_, aliased := index.Aliases[l.target]
		switch {
		case d.Digest != l.digest:
			return systemicf("%w: entity %s has changed", ErrDeclaration, name)
		case !ok || !aliased || index.Settings.Index.UUID != d.UUID:
			return systemicf("%w: %s", ErrLost, l.index)
		}
	}
	if _, ok := have[s.names.positions()].Aliases[ours(s.names.positions())]; !ok {
		return systemicf("%w: %s", ErrLost, s.names.positions())
	}
	return nil
}

// forget removes indices of other declarations which nothing was applied to; refused is the error about others, which are known still.
func (s *Sink) forget(ctx context.Context, was declaration, refused error) (known bool, err error) {
	at, err := s.positionsOf(ctx, ours(s.names.positions()))
	if err != nil || len(at) > 0 {
		return true, cmp.Or(err, refused)
	}
	indices := []string{s.names.positions()}
	for name := range was.Entities {
		indices = append(indices, s.names.index(name))
	}
	s.log.Info("the search indices are made anew: nothing was applied to them, and the declarations have changed", "prefix", s.names.prefix, "generation", s.names.generation)
	return false, s.client.call(ctx, http.MethodDelete, path(strings.Join(indices, ","))+"?ignore_unavailable=true", nil, nil)
}

// create makes the indices that are missing and writes down what they are. Those that are there were made by a start that was cut
// short, or by one that is under way now; what was written to them does no harm, for every document carries its version.
func (s *Sink) create(ctx context.Context, have map[string]found, first bool) (d declaration, err error) {
	var making errgroup.Group
	making.Go(func() error { return s.createPositions(ctx, have) })
	for _, l := range s.layouts {
		making.Go(func() error { return s.createIndex(ctx, l, have, first) })
	}
	if err := making.Wait(); err != nil {
		return d, err
	}
	now, err := s.look(ctx)
	if err != nil {
		return d, err
	}
	d.Entities = map[string]declared{}
	if s.cfg.Building {
		d.Restore = map[string]copies{}
	}
	for name, l := range s.layouts {
		index := now[l.index]
		if index.Mappings.Meta.Millrace.Digest != l.digest {
			return d, systemicf("%w: %s was there before", ErrDeclaration, l.index)
		}
		if s.cfg.Building {
			d.Restore[name] = index.Settings.Index.copies
		}
		d.Entities[name] = declared{Digest: l.digest, UUID: index.Settings.Index.UUID}
	}
	err = s.putRecord(ctx, declarationID, record{}, d)
	if has(err, http.StatusConflict) { // another process was faster
		if d, _, err = s.readDeclaration(ctx, now); err == nil {
			err = s.check(d, now)
		}
	}
	return d, err
}

func (s *Sink) createPositions(ctx context.Context, have map[string]found) error {
	name := s.names.positions()
	if _, ok := have[name]; ok {
		return nil
	}
	return ignoreExists(s.client.call(ctx, http.MethodPut, path(name), object{
		"settings": object{"index": object{"number_of_shards": 1, "translog.durability": "request"}},
		"mappings": object{"enabled": false}, // documents are kept, and asked for by their ids
		"aliases":  object{ours(name): object{}},
	}, nil))
}

// createIndex makes the index of an entity. Of the first generation, readers find it at once.
func (s *Sink) createIndex(ctx context.Context, l *layout, have map[string]found, first bool) error {
	if _, ok := have[l.index]; ok {
		return nil
	}
	body := object{"settings": settings(s.refresh(), len(l.Fields)), "mappings": l.mapping(s.names.generation)}
	// A template for whoever makes the index anew, to restore it or to copy it: its mapping must not be guessed. An operator's own
	// may win over it, or overlap, or the rights may be missing; the index is made with all of this in any case.
	err := s.client.call(ctx, http.MethodPut, "/_index_template"+path(l.index), object{"index_patterns": []string{l.index}, "priority": 1, "template": body}, nil)
	if has(err, http.StatusBadRequest) || has(err, http.StatusForbidden) {
		s.log.Warn("there is no index template: whoever makes the index anew gives it the mapping by hand", "index", l.index, "err", err)
	} else if err != nil {
		return err
	}
	aliases := object{l.target: object{}}
	if first {
		aliases[s.names.readers(l.Name)] = object{"filter": existing}
	}
	body["aliases"] = aliases
	return ignoreExists(s.client.call(ctx, http.MethodPut, path(l.index), body, nil))
}

func ignoreExists(err error) error {
	if isKind(err, kindExists) {
		return nil
	}
	return err
}

// adjust brings indices that were there up to date as far as that needs no rebuild: fields that a newer Millrace adds to every
// document, the refresh interval, and what is put off while they are built.
func (s *Sink) adjust(ctx context.Context, have map[string]found, d declaration) error {
	switch {
	case d.Restore != nil && s.cfg.Building:
		if err := s.toBuilding(ctx); err != nil {
			return err
		}
	case d.Restore != nil: // it is used before it is finished: as it would be, but without waiting
		if err := s.restore(ctx, d); err != nil {
			return err
		}
	}
	for _, l := range s.layouts {
		index, ok := have[l.index]
		if !ok {
			continue // made just now
		}
		var err error
		if index.Mappings.Meta.Millrace.Revision < revision {
			err = s.client.call(ctx, http.MethodPut, path(l.target)+"/_mapping", l.mapping(s.names.generation), nil)
		}
		if has(err, http.StatusBadRequest) {
			return systemicf("%w: %w", ErrDeclaration, err)
		}
		if err == nil && d.Restore == nil && index.Settings.Index.Refresh != s.refresh() {
			err = s.client.call(ctx, http.MethodPut, path(l.target)+"/_settings", object{"index": object{"refresh_interval": s.refresh()}}, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refresh is the refresh interval as the server spells it.
func (s *Sink) refresh() string {
	if s.cfg.RefreshInterval < 0 {
		return "-1"
	}
	return fmt.Sprintf("%dms", max(s.cfg.RefreshInterval/time.Millisecond, 1))
}
