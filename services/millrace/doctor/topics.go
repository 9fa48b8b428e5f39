package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/services/relay"
)

// topic is a topic of an outbox as it is and as it should be.
type topic struct {
	*cluster
	outbox relay.Config
	name   string
	// want is how the relay would make it; internal says that it holds the relay's own records.
	want     relay.Topic
	internal bool
	// have is nil if the topic does not exist; configs are nil where they may not be read.
	have    *kadm.TopicDetail
	configs map[string]string
}

var topicChecks = []check[*topic]{
	{"rights", topicRights},
	{"topic", exists},
	{"partitions", topicPartitions},
	{"replication", replication},
	{"min.insync.replicas", insync},
	{"in sync", inSync},
	{"cleanup.policy", cleanup},
	{"retention.ms", retention},
	{"max.message.bytes", messageBytes},
}

// outbox looks at all that one outbox has on Kafka.
func (c *cluster) outbox(ctx context.Context, o relay.Config) []Finding {
	all := examine(ctx, "kafka", o.Outbox, &ids{c, o}, idChecks)
	names := []string{relay.CursorTopic(o.Outbox), relay.ParkedTopic(o.Outbox)}
	for i, name := range append(names, slices.Sorted(maps.Keys(o.Topics))...) {
		t := &topic{cluster: c, outbox: o, name: name, want: o.Topics[name], internal: i < len(names)}
		if t.internal {
			t.want = relay.Topic{Partitions: 2 - i, Replication: o.Replication}
		}
		found, err := t.read(ctx)
		if err == nil {
			found = examine(ctx, "kafka", o.Outbox, t, topicChecks)
		}
		for _, f := range found {
			f.What = name + ": " + f.What
			f.System, f.Outbox = "kafka", o.Outbox
			all = append(all, f)
		}
	}
	return all
}

// read asks Kafka about the topic. An error comes with what is found instead.
func (t *topic) read(ctx context.Context) ([]Finding, error) {
	meta, err := t.adm.Metadata(kadm.WithAuthorizedOps(ctx), t.name)
	if denied(err) {
		f := found(Error, "may not be looked at", "the relay neither sees nor makes it", t.acl("--topic "+t.name, "Describe", "DescribeConfigs", "Read", "Write", "Create"))
		f[0].Check = "rights"
		return f, err
	}
	if err != nil {
		return []Finding{{Check: "topic", Severity: Warning, What: "could not be looked at: " + err.Error(), Why: "what is wrong there stays unknown", Mend: again}}, err
	}
	detail := meta.Topics[t.name]
	if errors.Is(detail.Err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	t.have = &detail
	described, err := t.adm.DescribeTopicConfigs(ctx, t.name)
	if err != nil {
		return nil, nil // checks that need them say nothing; the rights do
	}
	if r, err := described.On(t.name, nil); err == nil && r.Err == nil {
		t.configs = map[string]string{}
		for _, c := range r.Configs {
			t.configs[c.Key] = c.MaybeValue()
		}
	}
	return nil, nil
}

func exists(_ context.Context, t *topic) ([]Finding, error) {
	switch {
	case t.have == nil:
		return found(Note, "does not exist yet", "the relay makes it when it starts, if it may", t.make()), nil
	case t.have.Err != nil:
		return found(Error, t.have.Err.Error(), "it cannot be written", "see that the brokers that have it run"), nil
	}
	return fine("exists"), nil
}

// make is the command that makes the topic as it should be.
func (t *topic) make() string {
	text := fmt.Sprintf("kafka-topics.sh --bootstrap-server BROKER --create --topic %s --partitions %d", t.name, t.want.Partitions)
	if t.want.Replication > 0 {
		text += fmt.Sprintf(" --replication-factor %d", t.want.Replication)
	}
	if t.internal {
		return text + " --config cleanup.policy=compact"
	}
	return text + " --config cleanup.policy=delete --config retention.ms=" + t.retention()
}

// alter is the command that changes a config of the topic.
func (t *topic) alter(config, value string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server BROKER --alter --entity-type topics --entity-name %s --add-config %s=%s", t.name, config, value)
}

func topicPartitions(_ context.Context, t *topic) ([]Finding, error) {
	if t.have == nil {
		return nil, nil
	}
	have := len(t.have.Partitions)
	switch {
	case have == t.want.Partitions:
		return fine("%d partitions", have), nil
	case t.internal:
		return found(Error, fmt.Sprintf("%d partitions where the relay makes %d", have, t.want.Partitions), "the relay refuses to start: this is another topic than the one it made", "give the outbox another name if it is new; else bring the old topic back"), nil
	}
	return found(Warning, fmt.Sprintf("%d partitions where the configuration says %d", have, t.want.Partitions),
		"the topic is used as it is: keys are hashed over the count of the first event for ever, and partitions that are added stay empty",
		fmt.Sprintf("set outboxes.%s.topics.%s.partitions to %d, or begin a new topic", t.outbox.Outbox, t.name, have)), nil
}

// replicas is the replication factor: the smallest of all partitions.
func (t *topic) replicas() int {
	least := 0
	for _, p := range t.have.Partitions {
		if least == 0 || len(p.Replicas) < least {
			least = len(p.Replicas)
		}
	}
	return least
}

func replication(_ context.Context, t *topic) ([]Finding, error) {
	if t.have == nil {
		return nil, nil
	}
	have, brokers := t.replicas(), len(t.meta.Brokers)
	const mend = "kafka-reassign-partitions.sh moves a topic to more brokers"
	switch {
	case t.want.Replication > 0 && have != t.want.Replication:
		return found(Warning, fmt.Sprintf("replication %d where the configuration says %d", have, t.want.Replication), "a topic that is there is not changed", mend+"; or set replication to what it is"), nil
	case have == 1 && brokers > 1:
		return found(Warning, fmt.Sprintf("replication 1, of %d brokers", brokers), "what is on a broker whose disk is lost is lost, and nothing can be published while it is away", mend), nil
	}
	return fine("replication %d", have), nil
}

func insync(_ context.Context, t *topic) ([]Finding, error) {
	want, err := strconv.Atoi(t.configs["min.insync.replicas"])
	if t.have == nil || err != nil {
		return nil, nil
	}
	have := t.replicas()
	switch {
	case want > have:
		return found(Error, fmt.Sprintf("min.insync.replicas is %d, it has %d", want, have), "nothing can be written to it", t.alter("min.insync.replicas", strconv.Itoa(max(1, have-1)))), nil
	case want == have && have > 1:
		return found(Warning, fmt.Sprintf("min.insync.replicas is %d, of %d", want, have), "nothing can be written to it while one of its brokers is away", t.alter("min.insync.replicas", strconv.Itoa(have-1))), nil
	case want == 1 && have > 1:
		return found(Warning, fmt.Sprintf("min.insync.replicas is 1, of %d", have), "a record counts as written when one broker has it; when that one's disk is lost, so is the record", t.alter("min.insync.replicas", "2")), nil
	}
	return fine("min.insync.replicas is %d, of %d", want, have), nil
}

func inSync(_ context.Context, t *topic) ([]Finding, error) {
	if t.have == nil {
		return nil, nil
	}
	var headless, behind int
	for _, p := range t.have.Partitions {
		switch {
		case p.Leader < 0 || p.Err != nil:
			headless++
		case len(p.ISR) < len(p.Replicas):
			behind++
		}
	}
	switch {
	case headless > 0:
		return found(Error, fmt.Sprintf("%d of %d partitions have no leader", headless, len(t.have.Partitions)), "they can neither be written nor read", "start the brokers that have them"), nil
	case behind > 0:
		return found(Warning, fmt.Sprintf("%d of %d partitions lack a replica in sync", behind, len(t.have.Partitions)), "a broker is away or cannot keep up: the next one that fails may stop writing", "see which broker that is: kafka-topics.sh --describe --under-replicated-partitions"), nil
	}
	return fine("all replicas are in sync"), nil
}

func cleanup(_ context.Context, t *topic) ([]Finding, error) {
	policy, ok := t.configs["cleanup.policy"]
	switch {
	case !ok:
		return nil, nil
	case t.internal && policy != "compact":
		why := "Kafka deletes the cursor of a quiet outbox, and nobody knows what was published; the relay refuses to start"
		if t.name == relay.ParkedTopic(t.outbox.Outbox) {
			why = "Kafka deletes events that were parked long ago; the relay refuses to start"
		}
		return found(Error, "cleanup.policy is "+policy, why, t.alter("cleanup.policy", "compact")), nil
	case !t.internal && policy != "delete" && t.outbox.Topics[t.name].Configs["cleanup.policy"] != policy:
		return found(Warning, "cleanup.policy is "+policy, "Kafka removes older events of a key: no sink can be rebuilt from the log", t.alter("cleanup.policy", "delete")), nil
	}
	return fine("cleanup.policy is %s", policy), nil
}

// retention is the retention.ms that the configuration asks for.
func (t *topic) retention() string {
	if set, ok := t.want.Configs["retention.ms"]; ok {
		return set
	}
	if t.want.Retention <= 0 {
		return "-1"
	}
	return strconv.FormatInt(t.want.Retention.Milliseconds(), 10)
}

func retention(_ context.Context, t *topic) ([]Finding, error) {
	have, ok := t.configs["retention.ms"]
	if !ok || t.internal {
		return nil, nil
	}
	if have != t.retention() {
		return found(Warning, fmt.Sprintf("retention is %s where the configuration says %s", kept(have), kept(t.retention())), "a topic that is there is not changed; a sink can be rebuilt only from what the log still holds",
			t.alter("retention.ms", t.retention())), nil
	}
	if size := t.configs["retention.bytes"]; size != "" && size != "-1" && t.want.Configs["retention.bytes"] != size {
		return found(Warning, "retention.bytes is "+size, "older events are deleted when a partition is larger: a sink can be rebuilt only from what is left", t.alter("retention.bytes", "-1")), nil
	}
	return fine("retention is %s", kept(have)), nil
}

// kept shows milliseconds as a person says them.
func kept(ms string) string {
	n, err := strconv.ParseInt(ms, 10, 64)
	switch d := time.Duration(n) * time.Millisecond; {
	case err != nil:
		return ms
	case n < 0:
		return "forever"
	case d >= 24*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	default:
		return d.String()
	}
}

func messageBytes(_ context.Context, t *topic) ([]Finding, error) {
	have, err := strconv.Atoi(t.configs["max.message.bytes"])
	if err != nil || t.internal {
		return nil, nil
	}
	if want := t.outbox.BatchBytes(); have < want {
		return found(Warning, fmt.Sprintf("max.message.bytes is %d, the relay's largest record takes %d", have, want), "larger events are parked", t.alter("max.message.bytes", strconv.Itoa(want))), nil
	}
	return fine("max.message.bytes is %d", have), nil
}
