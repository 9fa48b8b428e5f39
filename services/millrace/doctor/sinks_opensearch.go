package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace/millrace/services/sink"
)

// searchServer is an OpenSearch that a sink writes to.
type searchServer struct {
	cfg    sink.Config
	client *http.Client
}

var searchChecks = []check[*searchServer]{
	{"health", searchHealth},
	{"blocks", searchBlocks},
	{"disk", searchDisk},
	{"settings", searchSettings},
}

// maxSearchAnswer bounds what is read of an answer, in bytes.
const maxSearchAnswer = 16 << 20

func (s Site) openSearch(ctx context.Context, cfg sink.Config) []Finding {
	secure, err := cfg.TLS.Config()
	if err != nil {
		return s.away("sink", "", whySink, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = secure
	defer transport.CloseIdleConnections()
	o := &searchServer{cfg, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	var about struct {
		Version struct{ Distribution, Number string }
	}
	if err := o.get(ctx, "/", &about); err != nil {
		return s.away("sink", "", whySink, err)
	}
	return append(o.version(about.Version.Distribution, about.Version.Number), examine(ctx, "sink", "", o, searchChecks)...)
}

func (o *searchServer) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(o.cfg.URL, "/")+path, nil)
	if err != nil {
		return errors.New("the url cannot be read")
	}
	if o.cfg.Username != "" {
		req.SetBasicAuth(o.cfg.Username, o.cfg.Password)
	}
	resp, err := o.client.Do(req)
	if err != nil {
		var wrapped interface{ Unwrap() error }
		if errors.As(err, &wrapped) { // *url.Error shows the address, which may hold a password
			err = wrapped.Unwrap()
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxSearchAnswer)).Decode(into)
}

// version tells which server it is. The sink is tested on OpenSearch 2; what else speaks its API has another name.
func (o *searchServer) version(distribution, number string) []Finding {
	f := fine("%s %s", distribution, number)
	major, _, _ := strings.Cut(number, ".")
	n, err := strconv.Atoi(major)
	switch {
	case distribution != "opensearch":
		f = found(Note, strings.TrimSpace(fmt.Sprintf("it is %s, not OpenSearch", strings.TrimSpace(distribution+" "+number))), "the sink is not tested on it; it keeps to what both have", "")
	case err != nil || n < 2:
		f = found(Warning, "OpenSearch "+number, "the sink is not tested on it", "upgrade it to OpenSearch 2 or newer")
	}
	f[0].Check = "version"
	return f
}

// indices are those of the sink, with commas and a wildcard.
func (o *searchServer) indices() string {
	prefix := o.cfg.IndexPrefix
	if prefix == "" {
		prefix = "millrace"
	}
	return prefix + "*"
}

// curl is a command that changes a setting.
func curl(path, body string) string {
	return fmt.Sprintf("curl -X PUT -H 'Content-Type: application/json' --data '%s' URL%s", body, path)
}

func searchHealth(ctx context.Context, o *searchServer) ([]Finding, error) {
	var h struct {
		Status string
		Nodes  int `json:"number_of_nodes"`
	}
	if err := o.get(ctx, "/_cluster/health", &h); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("the cluster is %s, with %d nodes", h.Status, h.Nodes)
	switch {
	case h.Status == "red":
		return found(Error, what, "part of some index is not there: writes to it wait, and searches miss documents", "curl URL/_cluster/allocation/explain"), nil
	case h.Status != "green" && h.Nodes > 1:
		return found(Warning, what, "a replica is missing: the loss of a node can lose documents", "curl URL/_cluster/allocation/explain"), nil
	case h.Nodes == 1:
		return found(Note, what, "a single node has no replica: when its disk is lost the indices are built anew from the topics", "add two nodes"), nil
	}
	return fine("%s", what), nil
}

// searchBlocks looks for settings that keep writers out, of the cluster and of the sink's indices.
func searchBlocks(ctx context.Context, o *searchServer) ([]Finding, error) {
	var cluster map[string]map[string]string
	if err := o.get(ctx, "/_cluster/settings?flat_settings=true", &cluster); err != nil {
		return nil, err
	}
	var all []Finding
	for _, where := range slices.Sorted(maps.Keys(cluster)) {
		for _, name := range []string{"cluster.blocks.read_only", "cluster.blocks.read_only_allow_delete"} {
			if cluster[where][name] == "true" {
				all = append(all, found(Error, name+" is true", whySink, curl("/_cluster/settings", `{"`+where+`":{"`+name+`":null}}`))...)
			}
		}
	}
	var indices map[string]struct{ Settings map[string]any }
	if err := o.get(ctx, "/"+o.indices()+"/_settings/index.blocks.*?flat_settings=true&expand_wildcards=all", &indices); err != nil {
		return all, err
	}
	for _, index := range slices.Sorted(maps.Keys(indices)) {
		for _, name := range slices.Sorted(maps.Keys(indices[index].Settings)) {
			if fmt.Sprint(indices[index].Settings[name]) != "true" {
				continue
			}
			why := whySink
			if name == "index.blocks.read_only_allow_delete" {
				why = "the server sets it when a disk is nearly full (flood_stage): " + why
			}
			all = append(all, found(Error, index+": "+name+" is true", why, "make room first; then "+curl("/"+index+"/_settings", `{"`+name+`":null}`))...)
		}
	}
	if len(all) == 0 {
		return fine("nothing keeps writers out"), nil
	}
	return all, nil
}

// Shares of a disk at which the server acts, where its settings are not told as shares: its own defaults, in percent.
const (
	highWatermark = 90
	floodStage    = 95
)

func searchDisk(ctx context.Context, o *searchServer) ([]Finding, error) {
	var stats struct {
		Nodes map[string]struct {
			Name string
			FS   struct {
				Total struct {
					Total     int64 `json:"total_in_bytes"`
					Available int64 `json:"available_in_bytes"`
				}
			}
		}
	}
	if err := o.get(ctx, "/_nodes/stats/fs", &stats); err != nil {
		return nil, err
	}
	high, flood, err := o.watermarks(ctx)
	if err != nil {
		return nil, err
	}
	var all []Finding
	fullest := 0.0
	for _, id := range slices.Sorted(maps.Keys(stats.Nodes)) {
		n := stats.Nodes[id]
		if n.FS.Total.Total <= 0 {
			continue
		}
		used := 100 * (1 - float64(n.FS.Total.Available)/float64(n.FS.Total.Total))
		fullest = max(fullest, used)
		what := fmt.Sprintf("the disk of node %s is %.0f %% full", n.Name, used)
		const mend = "make room on its disk, or add a node; do not raise the watermark"
		switch {
		case used >= flood:
			all = append(all, found(Error, what, fmt.Sprintf("from %.0f %% on the server makes indices read-only: %s", flood, whySink), mend)...)
		case used >= high:
			all = append(all, found(Warning, what, fmt.Sprintf("from %.0f %% on the server moves shards away, from %.0f %% on it makes indices read-only", high, flood), mend)...)
		}
	}
	if len(all) == 0 {
		return fine("the fullest disk is %.0f %% full", fullest), nil
	}
	return all, nil
}

// watermarks are the shares at which the server acts, in percent.
func (o *searchServer) watermarks(ctx context.Context) (high, flood float64, err error) {
	var settings map[string]map[string]any
	if err := o.get(ctx, "/_cluster/settings?flat_settings=true&include_defaults=true&filter_path=*.cluster.routing.allocation.disk.*", &settings); err != nil {
		return 0, 0, err
	}
	high, flood = highWatermark, floodStage
	for _, where := range []string{"defaults", "persistent", "transient"} { // the later wins
		for name, at := range map[string]*float64{"high": &high, "flood_stage": &flood} {
			text := fmt.Sprint(settings[where]["cluster.routing.allocation.disk.watermark."+name])
			if share, found := strings.CutSuffix(text, "%"); found {
				if n, err := strconv.ParseFloat(share, 64); err == nil {
					*at = n
				}
			}
		}
	}
	return high, flood, nil
}

// searchSettings looks at what somebody may have changed of the sink's indices.
func searchSettings(ctx context.Context, o *searchServer) ([]Finding, error) {
	var indices map[string]struct{ Settings map[string]any }
	if err := o.get(ctx, "/"+o.indices()+"/_settings?flat_settings=true&expand_wildcards=all", &indices); err != nil {
		return nil, err
	}
	var all []Finding
	for _, index := range slices.Sorted(maps.Keys(indices)) {
		s := indices[index].Settings
		if fmt.Sprint(s["index.translog.durability"]) == "async" {
			all = append(all, found(Warning, index+": index.translog.durability is async", "a crash of the server loses documents whose position it may have kept",
				curl("/"+index+"/_settings", `{"index.translog.durability":"request"}`))...)
		}
		if fmt.Sprint(s["index.refresh_interval"]) == "-1" {
			all = append(all, found(Note, index+": index.refresh_interval is -1", "searches find what is new only when somebody refreshes the index", curl("/"+index+"/_settings", `{"index.refresh_interval":"1s"}`))...)
		}
	}
	if len(all) == 0 {
		return fine("%d indices %s are set as the sink needs them", len(indices), o.indices()), nil
	}
	return all, nil
}
