package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millrace/millrace/consumers/dlq"
	"github.com/millrace/millrace/services/sink"
)

// store looks at where a sink keeps what it keeps.
func (s Site) store(ctx context.Context, cfg sink.Config) []Finding {
	var all []Finding
	switch cfg.Kind {
	case "postgres":
		all = s.warehouse(ctx, cfg)
	case "opensearch":
		all = s.openSearch(ctx, cfg)
	case "duckdb", "bleve":
		all = examine(ctx, "sink", "", cfg, folderChecks)
	}
	for i := range all {
		all[i].System, all[i].Outbox, all[i].Sink = "sink", "", cfg.Name
	}
	return all
}

const whySink = "the sink waits, or stops; its events stay in Kafka, for as long as the topics keep them"

// deadLetters looks for events that a sink could not apply. It reads what the sink put aside.
func (s Site) deadLetters(ctx context.Context, cfg sink.Config) []Finding {
	f := examine(ctx, "sink", "", cfg, []check[sink.Config]{{"dead letters", func(ctx context.Context, cfg sink.Config) ([]Finding, error) {
		keys, err := dlq.New(cfg.Name, s.Kafka...).Keys(ctx, dlq.Filter{})
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return fine("no event waits that could not be applied"), nil
		}
		events := int64(0)
		for _, k := range keys {
			events += int64(k.Letters)
		}
		return found(Warning, fmt.Sprintf("%d events wait, of %d keys; the first is of %s: %s", events, len(keys), keys[0].Topic, keys[0].Reason),
			"these keys are as they were before the first of them, however much has happened since",
			"millrace dlq list --keys --sink "+cfg.Name+"; then mend the cause and millrace dlq redrive, or millrace dlq discard"), nil
	}}})
	for i := range f {
		f[i].Sink = cfg.Name
	}
	return f
}

var folderChecks = []check[sink.Config]{
	{"folder", folder},
	{"space", space},
}

// existing is the folder that holds the path, or will: the nearest that is there.
func existing(path string) (string, error) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case err == nil && info.IsDir():
			return dir, nil
		case err == nil:
			return "", fmt.Errorf("%s is no folder", dir)
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return "", err
		}
	}
}

func folder(_ context.Context, cfg sink.Config) ([]Finding, error) {
	dir, err := existing(cfg.Path)
	if err != nil {
		return found(Error, "the folder of path cannot be had: "+err.Error(), whySink, "see that sinks."+cfg.Name+".path stands in a folder that the sink's user may write to"), nil
	}
	for _, path := range []string{dir, cfg.Path} {
		if writable(path) != nil {
			return found(Error, path+" cannot be written to by this user", whySink, "chown or chmod "+path+", or run doctor as the user that runs the sink"), nil
		}
	}
	return fine("%s can be written to", dir), nil
}

// Less space than this is soon too little, and less than that too little already: bytes.
const (
	littleSpace = 5 << 30
	noSpace     = 512 << 20
)

func space(_ context.Context, cfg sink.Config) ([]Finding, error) {
	dir, err := existing(cfg.Path)
	if err != nil {
		return nil, nil // which is said already
	}
	free, known := freeSpace(dir)
	const mend = "make room on the disk of sinks.NAME.path, or move it to a larger one while the sink is stopped"
	switch what := fmt.Sprintf("%d MiB are free below %s", free>>20, dir); {
	case !known:
		return found(Note, "how much room there is below "+dir+" is not known on this system", "a full disk stops the sink", ""), nil
	case free < noSpace:
		return found(Error, what, "the disk is full, or nearly: "+whySink, mend), nil
	case free < littleSpace:
		return found(Warning, what, "a full disk stops the sink", mend), nil
	default:
		return fine("%s", what), nil
	}
}
