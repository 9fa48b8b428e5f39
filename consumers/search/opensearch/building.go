package opensearch

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// copies says how many copies of an index there are besides the first: what the cluster, its templates and its operator have decided.
type copies struct {
	Replicas   string `json:"number_of_replicas"`
	AutoExpand string `json:"auto_expand_replicas,omitempty"`
}

// settings are the settings that make it so.
func (c copies) settings() object {
	if c.AutoExpand != "" && c.AutoExpand != "false" {
		return object{"auto_expand_replicas": c.AutoExpand}
	}
	return object{"auto_expand_replicas": false, "number_of_replicas": c.Replicas}
}

// toBuilding has indices that nobody reads yet neither refreshed nor copied. What to restore is written down before.
func (s *Sink) toBuilding(ctx context.Context) error {
	none := copies{Replicas: "0"}.settings()
	none["refresh_interval"] = "-1"
	return s.client.call(ctx, http.MethodPut, path(strings.Join(s.indices(), ","))+"/_settings", object{"index": none}, nil)
}

// Finish ends Config.Building: refresh interval and replicas become what they would have been without, everything is made visible to searches, and the
// replicas are waited for, at most Config.ReplicaTimeout. Repeated it changes nothing. Serve does it, too; but then the generation that serves is fenced
// already, and its readers wait for news.
func (s *Sink) Finish(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return fmt.Errorf("finish generation %d of %s: %w", s.names.generation, s.names.prefix, classify(err))
	}
	return nil
}

func (s *Sink) finish(ctx context.Context) error {
	r, err := s.getRecord(ctx, declarationID)
	if err != nil {
		return err
	}
	d, err := r.declaration()
	if err != nil || d.Restore == nil {
		return err
	}
	if err := s.restore(ctx, d); err != nil {
		return err
	}
	if err := s.refreshAll(ctx); err != nil {
		return err
	}
	if err := s.awaitReplicas(ctx); err != nil {
		return err
	}
	d.Restore = nil
	return s.putRecord(ctx, declarationID, r, d)
}

// restore undoes toBuilding.
func (s *Sink) restore(ctx context.Context, d declaration) error {
	for entity, l := range s.layouts {
		settings := d.Restore[entity].settings()
		settings["refresh_interval"] = s.refresh()
		if err := s.client.call(ctx, http.MethodPut, path(l.index)+"/_settings", object{"index": settings}, nil); err != nil {
			return err
		}
	}
	return nil
}

// healthEvery is how often it is looked how far the replicas are.
const healthEvery = 200 * time.Millisecond

// awaitReplicas waits until every copy is there, or none is being made that is not: what a cluster has no place for does not come by waiting. A part that has no
// copy at all is an error.
func (s *Sink) awaitReplicas(ctx context.Context) error {
	deadline := time.Now().Add(s.cfg.ReplicaTimeout)
	for idle := 0; ; {
		var h health
		if err := s.client.call(ctx, http.MethodGet, "/_cluster/health"+path(strings.Join(s.indices(), ",")), nil, &h); err != nil {
			return err
		}
		if idle++; h.Initializing > 0 {
			idle = 0
		}
		late := time.Now().After(deadline)
		switch {
		case h.Status == "green":
			return nil
		case h.Status == "yellow" && (idle >= 3 || late):
			s.log.Warn("the search indices have fewer copies than they are to have", "prefix", s.names.prefix, "generation", s.names.generation, "missing", h.Unassigned+h.Initializing)
			return nil
		case late:
			return fmt.Errorf("%w: the health of the indices is %q", errAnswer, clean(h.Status))
		}
		if err := wait(ctx, nil, healthEvery); err != nil {
			return err
		}
	}
}

// health is what the cluster says of the state of some indices.
type health struct {
	Status       string `json:"status"`
	Initializing int    `json:"initializing_shards"`
	Unassigned   int    `json:"unassigned_shards"`
}
