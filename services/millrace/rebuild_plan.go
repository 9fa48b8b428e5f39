package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/compare"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/rebuild"
	"github.com/millrace/millrace/services/millrace/doctor"
)

// rebuildPlan is what `rebuild --plan` says.
type rebuildPlan struct {
	Sink string `json:"sink"`
	// Serving is the generation that serves; Recorded says that it is known what it was built by.
	Serving  int  `json:"serving"`
	Recorded bool `json:"recorded"`
	// Entities are those of which something differs between the declarations that serve and those that are configured.
	Entities map[string]entityPlan `json:"entities"`
	Log      []logPlan             `json:"log"`
	// Reaches says whether everything can be had again: "log", "bronze", "bronze not asked", "no".
	Reaches string `json:"reaches"`
	// Events are about how many the log holds; Bytes is its size, -1 if that is not told.
	Events int64 `json:"events"`
	Bytes  int64 `json:"bytes"`
	// Disk is what the store holds now, and the new generation about as much beside it; -1 if it is not told, DiskWhy says why.
	Disk    int64  `json:"disk"`
	DiskWhy string `json:"disk_why,omitempty"`
	// Rate is that of the last build, in events a second, and Comparing how long it was compared; Time is what is to be expected of building and comparing. 0 if nothing was
	// measured yet.
	Rate      float64       `json:"rate"`
	Comparing time.Duration `json:"comparing"`
	Time      time.Duration `json:"time"`
	// Running is a rebuild that goes on already.
	Running *rebuild.Rebuild `json:"running,omitempty"`
}

// entityPlan is what differs of an entity.
type entityPlan struct {
	// How is added, gone or changed; Unreadable, where the old declaration cannot be read any more, says why.
	How        string                  `json:"how"`
	Unreadable string                  `json:"unreadable,omitempty"`
	Changed    []compare.ChangedColumn `json:"changed,omitempty"`
}

// logPlan is a partition of the log.
type logPlan struct {
	consumers.TopicPartition
	First int64 `json:"first"`
	End   int64 `json:"end"`
	// Bronze is the first offset that bronze keeps; -1 for none.
	Bronze int64 `json:"bronze"`
}

// plan looks at everything that a rebuild would need, and changes nothing.
func (d *rebuilt) plan(cmd *cobra.Command, out *format) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
	defer cancel()
	told := newSteps(cmd.ErrOrStderr())
	defer told.stop()
	told.at("looking at Kafka and the store of sink "+d.name, 0, 0)
	rec, err := d.Read(ctx)
	if err != nil {
		return err
	}
	keep, topics, err := d.projections()
	if err != nil {
		return err
	}
	p := &rebuildPlan{Sink: d.name, Serving: rec.Serving, Recorded: rec.Generations[rec.Serving] != nil, Running: rec.Rebuild}
	if p.Entities, err = d.entities(&rec, keep); err != nil {
		return err
	}
	if err := d.measure(ctx, p, topics); err != nil {
		return err
	}
	p.estimate(&rec)
	told.stop()
	if *out == "json" {
		return out.print(cmd.OutOrStdout(), p, nil, nil)
	}
	return p.print(cmd.OutOrStdout())
}

// entities are what the declarations that are configured make in another way.
func (d *rebuilt) entities(rec *rebuild.Record, keep []fold.Projection) (map[string]entityPlan, error) {
	out := map[string]entityPlan{}
	g := rec.Generations[rec.Serving]
	if g == nil {
		return out, nil
	}
	catalogue, all, err := d.config.declarations()
	if err != nil {
		return nil, err
	}
	old, declared := map[string]*projection.Projection{}, map[string]*projection.Projection{}
	for _, p := range all {
		declared[p.Entity()] = p
	}
	var unreadable error
	for _, name := range sorted(g.Projections) {
		p, err := projection.Parse(name, []byte(g.Projections[name]), catalogue)
		if err != nil {
			unreadable = errors.Join(unreadable, err)
			continue
		}
		old[p.Entity()] = p
	}
	for _, entity := range g.Differs(keep) {
		kept := slices.ContainsFunc(keep, func(p fold.Projection) bool { return p.Entity() == entity })
		switch {
		case !kept:
			out[entity] = entityPlan{How: "gone"}
		case g.Digests[entity] == "":
			out[entity] = entityPlan{How: "added"}
		case old[entity] == nil:
			out[entity] = entityPlan{How: "changed", Unreadable: oneLine(whyUnreadable(unreadable))}
		default:
			out[entity] = entityPlan{How: "changed", Changed: compare.Changes(old[entity], declared[entity])}
		}
	}
	return out, nil
}

func whyUnreadable(err error) error {
	if err == nil {
		return errors.New("its text is not in the record")
	}
	return err
}

// measure asks Kafka for the log, and the store for its size.
func (d *rebuilt) measure(ctx context.Context, p *rebuildPlan, topics []string) error {
	adm, err := d.config.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("ask Kafka about the log: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return fmt.Errorf("ask Kafka about the log: %w", err)
	}
	starts.Each(func(o kadm.ListedOffset) {
		end, ok := ends.Lookup(o.Topic, o.Partition)
		if o.Err != nil || !ok || end.Err != nil {
			return
		}
		p.Log = append(p.Log, logPlan{TopicPartition: consumers.TopicPartition{Topic: o.Topic, Partition: o.Partition}, First: o.Offset, End: end.Offset, Bronze: -1})
		p.Events += end.Offset - o.Offset
	})
	slices.SortFunc(p.Log, func(a, b logPlan) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	p.Bytes = logBytes(ctx, adm, topics)
	if p.Disk, err = doctor.Stored(ctx, d.cfg, p.Serving); err != nil {
		p.Disk, p.DiskWhy = -1, oneLine(err)
	}
	d.reach(ctx, p)
	return nil
}

// logBytes is the size of topics, each partition counted once; -1 if the brokers do not tell.
func logBytes(ctx context.Context, adm *kadm.Client, topics []string) int64 {
	there, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return -1
	}
	dirs, err := adm.DescribeAllLogDirs(ctx, there.TopicsSet())
	if err != nil {
		return -1
	}
	sizes := map[consumers.TopicPartition]int64{}
	dirs.Each(func(dir kadm.DescribedLogDir) {
		if dir.Err != nil {
			return
		}
		dir.Topics.Each(func(x kadm.DescribedLogDirPartition) {
			tp := consumers.TopicPartition{Topic: x.Topic, Partition: x.Partition}
			sizes[tp] = max(sizes[tp], x.Size)
		})
	})
	if len(sizes) == 0 {
		return -1
	}
	n := int64(0)
	for _, size := range sizes {
		n += size
	}
	return n
}

// reach finds out whether the log, or bronze with it, goes back to the first event.
func (d *rebuilt) reach(ctx context.Context, p *rebuildPlan) {
	p.Reaches = "log"
	if !slices.ContainsFunc(p.Log, func(l logPlan) bool { return l.First > 0 }) {
		return
	}
	p.Reaches = "no"
	if !d.cfg.KeepsEvents() {
		return
	}
	r := remote{url: "http://" + d.config.HTTP.Listen, sink: d.name}
	var answer sqlAnswer
	ask := sqlQuestion{SQL: `select topic, partition, min("offset") from bronze.events group by 1, 2`, MaxRows: 100_000, Timeout: "10s"}
	if err := r.call(ctx, 10*time.Second, "POST", "/sql", ask, &answer); err != nil {
		p.Reaches = "bronze not asked"
		return
	}
	p.Reaches = "bronze"
	for i, l := range p.Log {
		for _, row := range answer.Rows {
			var first int64
			if len(row) == 3 && value(row[0]) == l.Topic && value(row[1]) == fmt.Sprint(l.Partition) {
				if _, err := fmt.Sscan(value(row[2]), &first); err == nil {
					p.Log[i].Bronze = first
				}
			}
		}
		if l.First > 0 && p.Log[i].Bronze != 0 {
			p.Reaches = "no"
		}
	}
}

// estimate says how long it takes by the rate of the last build.
func (p *rebuildPlan) estimate(rec *rebuild.Record) {
	newest := 0
	for n, g := range rec.Generations {
		if g.Rate > 0 && (n == rec.Serving || n > newest && newest != rec.Serving) {
			p.Rate, p.Comparing, newest = g.Rate, g.Compared.Round(100*time.Millisecond), n
		}
	}
	if p.Rate > 0 {
		p.Time = (time.Duration(float64(p.Events)/p.Rate*float64(time.Second)) + p.Comparing).Round(time.Second)
	}
}
