package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// note says how far a run has come. It is written in the transaction of the copies that it counts.
type note struct {
	Topic string `json:"topic"`
	// Range tells one run from another: what is copied, and from which topic, should that be made anew.
	Range string `json:"range"`
	// Said is the range in words.
	Said       string      `json:"said"`
	At         time.Time   `json:"at"`
	Sent       int64       `json:"sent"`
	Partitions []Partition `json:"partitions"`
}

// journalTopic holds the notes of the run into a topic: one topic each, for another's open transaction would hide the newest note.
func journalTopic(into string) string { return "__millrace.replay." + into }

func transactionalID(into string) string { return "millrace.replay." + into }

// journal writes copies and notes, in transactions.
type journal struct {
	topic  string
	id     string
	digest string
	client *kgo.Client
}

// How long the brokers may take for a transaction, and when they end one that nobody ends.
const (
	commitTimeout      = 30 * time.Second
	abortTimeout       = 5 * time.Second
	transactionTimeout = 60 * time.Second
	recordRetries      = 20
)

func openJournal(ctx context.Context, admin *kadm.Client, cfg Config, sourceID string) (*journal, error) {
	j := &journal{topic: journalTopic(cfg.Into), id: transactionalID(cfg.Into)}
	digest := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q", cfg.Topic, sourceID, cfg.Since, cfg.Until, cfg.Key, cfg.Type))
	j.digest = hex.EncodeToString(digest[:8])
	if _, err := ensure(ctx, admin, j.topic, 1, func() map[string]string { return map[string]string{"cleanup.policy": "compact"} }); err != nil {
		return nil, err
	}
	var err error
	j.client, err = newClient(cfg.Kafka, kgo.TransactionalID(j.id), kgo.TransactionTimeout(transactionTimeout), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.ManualFlushing(), kgo.MaxBufferedRecords(2*maxPage), kgo.RecordRetries(recordRetries), kgo.ProducerBatchMaxBytes(maxBatchBytes(ctx, admin, cfg.Topic)))
	return j, err
}

// usualBatchBytes is the largest batch that the client makes untold, maxBatch the largest that it is told to make.
const (
	usualBatchBytes = 1_000_012
	maxBatch        = 64 << 20
)

// maxBatchBytes lets a record through that is larger than usual, if the source has such.
func maxBatchBytes(ctx context.Context, admin *kadm.Client, topic string) int32 {
	n := int64(usualBatchBytes)
	for _, value := range sizes(ctx, admin, topic) {
		if _, err := fmt.Sscan(value, &n); err != nil {
			return usualBatchBytes
		}
	}
	return int32(min(max(n, usualBatchBytes), maxBatch))
}

func (j *journal) close() {
	if j.client != nil {
		j.client.Close()
	}
}

// read returns the newest note; nil if there is none. Taking the transactional id first ends the transaction of a run that was killed,
// and keeps one that still lives from committing more.
func (j *journal) read(ctx context.Context, reader *kgo.Client) (*note, error) {
	if _, _, err := j.client.ProducerID(ctx); err != nil {
		return nil, fmt.Errorf("take transactional id %s: %w", j.id, err)
	}
	log, err := relay.OpenLog(ctx, reader, j.topic, true)
	if err != nil {
		return nil, err
	}
	next, end := log.Extent(0)
	var newest *kgo.Record
	for next < end {
		var records []*kgo.Record
		if records, next, err = log.Read(ctx, 0, next); err != nil {
			return nil, err
		}
		if len(records) > 0 {
			newest = records[len(records)-1]
		}
	}
	if newest == nil || newest.Value == nil {
		return nil, nil
	}
	var n note
	if err := json.Unmarshal(newest.Value, &n); err != nil {
		return nil, fmt.Errorf("read the note of an earlier replay on %s: %w: --restart forgets it", j.topic, err)
	}
	return &n, nil
}

// begin notes that a run begins, and what its range is: a run that goes on has the same end.
func (j *journal) begin(ctx context.Context, n note) error { return j.commit(ctx, nil, n) }

// commit writes copies and the note that counts them, all or nothing.
func (j *journal) commit(ctx context.Context, copies []*kgo.Record, n note) error {
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return j.transaction(ctx, append(copies, &kgo.Record{Topic: j.topic, Key: []byte("replay"), Value: value}))
}

func (j *journal) transaction(ctx context.Context, records []*kgo.Record) error {
	limit, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := j.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	var refused kgo.FirstErrPromise
	for _, r := range records {
		j.client.Produce(limit, r, refused.Promise())
	}
	err := j.client.Flush(limit) // ends early only with limit
	if err == nil {
		err = refused.Err()
	}
	if err == nil {
		err = j.client.EndTransaction(limit, kgo.TryCommit)
	}
	if err == nil {
		return nil
	}
	j.abort(ctx)
	if limit.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("the brokers did not get done with it within %v: millrace doctor may know why", commitTimeout)
	}
	return fmt.Errorf("write %d records to %s in a transaction: %w", len(records), records[0].Topic, err)
}

// abort ends a transaction that did not come to its end, so that readers of the topic need not wait until it is timed out. A run that
// goes on would do the same.
func (j *journal) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if j.client.AbortBufferedRecords(ctx) == nil {
		_ = j.client.EndTransaction(ctx, kgo.TryAbort)
	}
}

// finish forgets the run: the journal is empty, and gone where this user may delete topics.
func (j *journal) finish(ctx context.Context, admin *kadm.Client) error {
	if err := j.transaction(ctx, []*kgo.Record{{Topic: j.topic, Key: []byte("replay")}}); err != nil {
		return err
	}
	_, _ = admin.DeleteTopics(ctx, j.topic) // nothing but tidiness: an empty journal means the same
	return nil
}
