package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/keyword"
	"github.com/blevesearch/bleve/v2/mapping"
)

// bleveBatch is how many events the ceiling writes at a time.
const bleveBatch = 1000

// bleveCase measures documents in an embedded index, against plain documents from memory in batches of 1,000.
func (r *sinkRig) bleveCase(ctx context.Context) error {
	n := r.opts.BleveEvents
	t, err := r.sales(ctx, 1, n)
	if err != nil {
		return err
	}
	r.report.Versions["bleve"] = moduleVersion("github.com/blevesearch/bleve/v2")
	c := r.report.in("bleve, one lane, " + thousands(n))
	for rep := range r.opts.Reps {
		r.say("bleve, %d of %d", rep+1, r.opts.Reps)
		r.runs++
		path := filepath.Join(r.dir, fmt.Sprintf("search_%d", r.runs))
		d, err := r.drainSink(ctx, sinkSetup{topic: t, declare: declareAll, lines: []string{"kind: bleve", fmt.Sprintf("path: %q", path)}})
		if err = errors.Join(err, removeAll(path)); err != nil {
			return err
		}
		ceiling, err := r.bleveCeiling(ctx, n)
		if err != nil {
			return err
		}
		c.row("part of the ceiling", "", d.rate/ceiling, atLeast(0.8))
		c.sinkRows(d, mostSink)
		c.row("ceiling: batches of 1,000 from memory", "1/s", ceiling)
		r.say("%s events/s, %.2f of the ceiling (%s/s)", thousands(int64(d.rate)), d.rate/ceiling, thousands(int64(ceiling)))
	}
	return nil
}

// bleveMapping indexes what the sink indexes: keywords, a text by its words, numbers and times; all words in one field more.
func bleveMapping() mapping.IndexMapping {
	doc := bleve.NewDocumentStaticMapping()
	field := func(name string, m *mapping.FieldMapping, all bool) {
		m.Store, m.IncludeInAll = false, all
		doc.AddFieldMappingsAt(name, m)
	}
	for _, name := range []string{"customer_id", "status", "currency", "city", "zip", "sale_id"} {
		m := bleve.NewTextFieldMapping()
		m.Analyzer = keyword.Name
		m.IncludeTermVectors = false
		field(name, m, true)
	}
	field("note", bleve.NewTextFieldMapping(), true)
	for _, name := range []string{"n", "total", "quantity", "weight"} {
		field(name, bleve.NewNumericFieldMapping(), false)
	}
	field("placed_at", bleve.NewDateTimeFieldMapping(), false)
	m := bleve.NewIndexMapping()
	m.DefaultMapping = doc
	return m
}

// bleveCeiling is what bleve can do with documents that are ready in memory, the newest of each key in a batch.
func (r *sinkRig) bleveCeiling(ctx context.Context, n int64) (rate float64, err error) {
	r.runs++
	path := filepath.Join(r.dir, fmt.Sprintf("ceiling_%d", r.runs))
	index, err := bleve.New(path, bleveMapping())
	if err != nil {
		return 0, fmt.Errorf("make an index: %w", err)
	}
	defer func() { err = errors.Join(err, index.Close(), removeAll(path)) }()
	var done atomic.Int64
	tell := r.progress(func() string { return fmt.Sprintf("bleve from memory: %s of %s", thousands(done.Load()), thousands(n)) })
	defer tell()
	all := batches(n, 1, bleveBatch)[0]
	began := time.Now()
	for _, batch := range all {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b := index.NewBatch()
		for _, at := range batch {
			key, s := saleKeyText(saleKey(at)), r.sold.of(at)
			err := b.Index(key, map[string]any{
				"sale_id": key, "n": float64(at), "customer_id": s.customer, "status": s.status, "total": float64(s.cents) / 100, "currency": s.currency,
				"quantity": float64(s.quantity), "placed_at": s.placed, "city": s.city, "zip": s.zip, "weight": s.weight, "note": s.note,
			})
			if err != nil {
				return 0, fmt.Errorf("index a document: %w", err)
			}
		}
		if err := index.Batch(b); err != nil {
			return 0, fmt.Errorf("write a batch: %w", err)
		}
		done.Add(bleveBatch)
	}
	took := time.Since(began)
	_, keys, _ := latest(n)
	found, err := index.DocCount()
	if err == nil {
		err = same(int64(found), 0, keys, 0)
	}
	return perSecond(n, took), err
}
