package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Check is one part of the proof.
type Check struct {
	// Claim is what is checked, OK whether it is so, Detail the figures.
	Claim  string `json:"claim"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// Where says where the proof looks.
type Where struct {
	// Postgres is the application's database, with the outbox and the shop's own tables.
	Postgres string
	Brokers  []string
	// Topics are the events topics.
	Topics []string
	// SQL and Search are the URLs under which the warehouse and the index answer.
	SQL, Search string
}

// committed is the truth about the events: what the application's transactions left in its database.
type committed struct {
	ids   map[string]bool
	byKey map[string][]string // event ids of each topic and key, in the order of their commits
	sum   string              // over all ids, sorted
}

// Prove compares the committed events with the topics, the warehouse and the documents. Everything must have been applied.
//
// Promises 1 to 4: nothing lost, nothing invented, order kept for every key, each event once.
func Prove(ctx context.Context, w Where) ([]Check, error) {
	pool, err := pgxpool.New(ctx, w.Postgres)
	if err != nil {
		return nil, fmt.Errorf("connect to the application's database: %w", err)
	}
	defer pool.Close()
	truth, err := readCommitted(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("read the committed events: %w", err)
	}
	var checks []Check
	for _, prove := range []func() ([]Check, error){
		func() ([]Check, error) { return proveTopics(ctx, w, truth) },
		func() ([]Check, error) { return proveWarehouse(ctx, w, truth) },
		func() ([]Check, error) { return proveDocuments(ctx, w, pool) },
	} {
		more, err := prove()
		if err != nil {
			return checks, err
		}
		checks = append(checks, more...)
	}
	return checks, nil
}

func readCommitted(ctx context.Context, pool *pgxpool.Pool) (*committed, error) {
	c := &committed{ids: map[string]bool{}, byKey: map[string][]string{}}
	// Writers of a key take turns before they insert, so the order of ids is the order of commits.
	rows, err := pool.Query(ctx, "select event_id::text, topic, key from outbox.event order by id")
	if err != nil {
		return nil, err
	}
	var id, topic, key string
	_, err = pgx.ForEachRow(rows, []any{&id, &topic, &key}, func() error {
		c.ids[id] = true
		c.byKey[topic+"\x00"+key] = append(c.byKey[topic+"\x00"+key], id)
		return nil
	})
	c.sum = checksum(c.ids)
	return c, err
}

// checksum is over the ids, one a line, sorted: the warehouse computes the same.
func checksum(ids map[string]bool) string {
	list := make([]string, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	sort.Strings(list)
	h := sha256.New()
	for i, id := range list {
		if i > 0 {
			h.Write([]byte("\n"))
		}
		h.Write([]byte(id))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readTimeout bounds the reading of the topics from beginning to end.
const readTimeout = 5 * time.Minute

// proveTopics reads every topic as a consumer with read_committed would.
func proveTopics(ctx context.Context, w Where, truth *committed) ([]Check, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	seen := map[string]int{}
	byKey := map[string][]string{}
	err := readTopics(ctx, w, func(r *kgo.Record) {
		id := ""
		for _, h := range r.Headers {
			if h.Key == "ce_id" {
				id = string(h.Value)
			}
		}
		seen[id]++
		byKey[r.Topic+"\x00"+string(r.Key)] = append(byKey[r.Topic+"\x00"+string(r.Key)], id)
	})
	if err != nil {
		return nil, err
	}
	total, twice, invented, missing, outOfOrder := 0, 0, 0, 0, 0
	for id, n := range seen {
		total += n
		twice += n - 1
		if !truth.ids[id] {
			invented++
		}
	}
	for id := range truth.ids {
		if seen[id] == 0 {
			missing++
		}
	}
	for key, ids := range truth.byKey {
		if !slices.Equal(ids, byKey[key]) {
			outOfOrder++
		}
	}
	return []Check{
		{"committed events = events in the topics", missing == 0 && invented == 0,
			fmt.Sprintf("%s committed, %s in %d topics; %d missing, %d invented", number(int64(len(truth.ids))), number(int64(total)), len(w.Topics), missing, invented)},
		{"none twice in the topics", twice == 0, fmt.Sprintf("%d doubled", twice)},
		{"order kept for every key", outOfOrder == 0, fmt.Sprintf("%s keys compared event by event, %d differ", number(int64(len(truth.byKey))), outOfOrder)},
	}, nil
}

// readTopics calls f for every committed record, partition by partition in order.
func readTopics(ctx context.Context, w Where, f func(*kgo.Record)) error {
	adm, err := kgo.NewClient(kgo.SeedBrokers(w.Brokers...))
	if err != nil {
		return err
	}
	defer adm.Close()
	ends, err := kadm.NewClient(adm).ListCommittedOffsets(ctx, w.Topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the ends of the topics: %w", err)
	}
	from := map[string]map[int32]kgo.Offset{}
	left := map[string]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			if from[o.Topic] == nil {
				from[o.Topic] = map[int32]kgo.Offset{}
			}
			from[o.Topic][o.Partition] = kgo.NewOffset().AtStart()
			left[place(o.Topic, o.Partition)] = o.Offset
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.Brokers...), kgo.ConsumePartitions(from), kgo.KeepControlRecords(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the topics: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, waiting := left[place(r.Topic, r.Partition)]
			if !waiting || r.Offset >= end {
				return
			}
			if r.Offset == end-1 {
				delete(left, place(r.Topic, r.Partition))
			}
			if !r.Attrs.IsControl() {
				f(r)
			}
		})
	}
	return nil
}

func place(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// proveWarehouse asks the warehouse itself.
func proveWarehouse(ctx context.Context, w Where, truth *committed) ([]Check, error) {
	rows, err := askSQL(ctx, w.SQL, `
		select count(*), count(distinct event_id), sha256(string_agg(distinct event_id, chr(10) order by event_id)),
			(select count(*) from (select seq, lag(seq) over (partition by topic, key order by "offset") as before from bronze.events) where seq <= before)
		from bronze.events`)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != 4 {
		return nil, fmt.Errorf("the warehouse answered %d rows", len(rows))
	}
	n, distinct, sum, inverted := fmt.Sprint(rows[0][0]), fmt.Sprint(rows[0][1]), fmt.Sprint(rows[0][2]), fmt.Sprint(rows[0][3])
	want := fmt.Sprint(len(truth.ids))
	return []Check{
		{"committed events = events in the warehouse, none twice", n == want && distinct == want && sum == truth.sum,
			fmt.Sprintf("%s rows, %s event ids; checksums of all ids %s", apart(n), apart(distinct), equal(sum == truth.sum))},
		{"order kept in the warehouse", inverted == "0", inverted + " inversions of a key"},
	}, nil
}

// apart is a count that came as text, with its thousands apart.
func apart(count string) string {
	if n, err := strconv.ParseInt(count, 10, 64); err == nil {
		return number(n)
	}
	return count
}

func equal(same bool) string {
	if same {
		return "are equal"
	}
	return "differ"
}
