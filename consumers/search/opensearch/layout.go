package opensearch

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/search/query"
)

// layoutVersion is part of every digest: indices made by another way of making documents have to be rebuilt.
const layoutVersion = "1"

// revision counts the fields that were added to every document without making those that are there wrong: an index of an earlier one
// gets them when it is opened.
const revision = 1

// Fields of every document, besides its columns, whose names begin with a letter.
const (
	stateField = "_state" // the stored state, not indexed
	keyField   = "_key"   // the entity's key
	liveField  = "_live"  // of documents that exist: what searches are bound to
	textField  = "_text"  // all words of all texts, copied there by the server; not in the source
	sortField  = "_sort"  // exact forms of what a double cannot tell apart, by column
	whyField   = "_unindexed"
)

// maxKeyword is the length in characters up to which a text is a keyword: Lucene takes no term of more than 32,766 bytes. A longer
// one is found by its words only.
const maxKeyword = 8191

// doubleDigits is the number of decimal digits that a double holds for certain.
const doubleDigits = 15

// layout is how the states of one entity become documents.
type layout struct {
	*query.Entity
	topic, digest string
	index, target string // the index and the alias that it is written to by
	// wide are the columns whose decimals have a sortable form of their own.
	wide []bool
}

func newLayouts(n names, projections []fold.Projection) (map[string]*layout, error) {
	out := make(map[string]*layout, len(projections))
	for _, p := range projections {
		if out[p.Entity()] != nil {
			return nil, fmt.Errorf("opensearch: entity %s is declared twice", p.Entity())
		}
		l := &layout{Entity: query.NewEntity(p), topic: p.Topic(), index: n.index(p.Entity())}
		l.target = ours(l.index)
		for _, f := range l.Fields {
			l.wide = append(l.wide, isWide(f))
		}
		l.digest = l.digestOf(p)
		out[p.Entity()] = l
	}
	return out, nil
}

func isWide(f query.Field) bool {
	return f.Kind == query.Number && f.Type.Kind == projection.Decimal && f.Type.Precision > doubleDigits
}

// digestOf changes when states or documents would be made differently.
func (l *layout) digestOf(p fold.Projection) string {
	h := sha256.New()
	fmt.Fprintln(h, layoutVersion, p.Topic(), p.Digest())
	for _, f := range l.Fields {
		fmt.Fprintln(h, f.Name, f.Kind, f.Type)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

type object = map[string]any

// mapping is the mapping of the entity's index. It is strict: a field that no column declares is refused.
func (l *layout) mapping(generation int) object {
	properties, exact := object{
		stateField: object{"type": "binary"},
		keyField:   object{"type": "keyword", "copy_to": textField},
		liveField:  object{"type": "boolean", "doc_values": false},
		textField:  words(),
		whyField:   object{"type": "keyword", "ignore_above": maxKeyword},
	}, object{}
	for i, f := range l.Fields {
		properties[f.Name] = fieldMapping(f)
		if l.wide[i] {
			exact[f.Name] = object{"type": "keyword"}
		}
	}
	properties[sortField] = object{"dynamic": "strict", "properties": exact}
	return object{"dynamic": "strict", "properties": properties,
		"_meta": object{"millrace": object{"entity": l.Name, "topic": l.topic, "generation": generation, "digest": l.digest, "revision": revision}}}
}

func words() object { return object{"type": "text", "analyzer": "standard"} }

func fieldMapping(f query.Field) object {
	switch f.Kind {
	case query.Text:
		m := words()
		m["copy_to"] = textField
		return m
	case query.Keyword:
		return object{"type": "keyword", "ignore_above": maxKeyword, "copy_to": textField}
	case query.Instant:
		return object{"type": "date", "format": "strict_date_optional_time"}
	case query.Truth:
		return object{"type": "boolean"}
	case query.Number:
		if f.Type.Kind == projection.Int {
			return object{"type": "long"}
		}
		return object{"type": "double"}
	}
	if f.Type.Kind == projection.Bytes {
		return object{"type": "binary"}
	}
	return object{"type": "object", "enabled": false}
}

// settings of every index. What operators decide (shards, replicas) is left to the cluster and its templates.
func settings(refresh string, fields int) object {
	return object{"index": object{
		"refresh_interval":    refresh,
		"translog.durability": "request", // what was acknowledged is on the disk
		"mapping":             object{"total_fields": object{"limit": 1000 + 2*fields}},
	}}
}
