package fold

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// History reads the records of a partition that a sink has applied, from the first there ever was: those that the log does not hold any more come from
// the sink's own bronze. It returns a *Forgotten if neither has them.
func History(ctx context.Context, kafka []kgo.Opt, store Sink, tp consumers.TopicPartition, start, until int64, f func(*kgo.Record) error) (fromBronze bool, err error) {
	if start > 0 {
		k, keeps := store.(EventKeeper)
		if !keeps {
			return false, &Forgotten{tp, start, "and the sink keeps no events"}
		}
		kept, err := k.Kept(ctx)
		if err != nil {
			return false, err
		}
		if has, ok := kept[tp]; !ok || has.First >= start {
			return false, &Forgotten{tp, start, "and the sink keeps none from before"}
		}
		if err := k.Records(ctx, tp, 0, min(start, until), once(f)); err != nil {
			return false, err
		}
		fromBronze = true
	}
	return fromBronze, consumers.ReadPartition(ctx, kafka, tp, start, until, f)
}

// once leaves out what is kept twice.
func once(f func(*kgo.Record) error) func(*kgo.Record) error {
	last := int64(-1)
	return func(rec *kgo.Record) error {
		if rec.Offset == last {
			return nil
		}
		last = rec.Offset
		return f(rec)
	}
}

// Forgotten is why the events of a partition cannot be had from the first on.
type Forgotten struct {
	consumers.TopicPartition
	Start int64
	Why   string
}

// Error says where the log begins.
func (e *Forgotten) Error() string {
	return fmt.Sprintf("the log of %s/%d begins at offset %d, %s: what was before is not known", e.Topic, e.Partition, e.Start, e.Why)
}
