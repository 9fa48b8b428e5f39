package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/services/relay"
)

// cluster is Kafka as far as it told of itself.
type cluster struct {
	site Site
	adm  *kadm.Client
	meta kadm.Metadata
	// settings are those of the brokers by name, of each broker that told them; nil where none may be read.
	settings map[string][]string
	// hidden is why they may not be read.
	hidden error
}

var clusterChecks = []check[*cluster]{
	{"brokers", brokers},
	{"settings", settingsReadable},
	{"offsets.retention.minutes", offsetsRetention},
	{"transaction.max.timeout.ms", transactionTimeout},
	{"unclean.leader.election.enable", uncleanElection},
	{"auto.create.topics.enable", autoCreate},
	{"internal topics", internalReplication},
}

func (s Site) kafka(ctx context.Context) []Finding {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.RequestRetries(1), kgo.RetryTimeout(s.Timeout)}, s.Kafka...)...)
	if err != nil {
		return s.away("kafka", "", "nothing can be published", err)
	}
	defer cl.Close()
	c := &cluster{site: s, adm: kadm.NewClient(cl)}
	if c.meta, err = c.adm.BrokerMetadata(ctx); err != nil {
		return s.away("kafka", "", "nothing can be published; events wait in the outbox", err)
	}
	c.readSettings(ctx)
	all := examine(ctx, "kafka", "", c, clusterChecks)
	for _, o := range s.Outboxes {
		all = append(all, c.outbox(ctx, o)...)
	}
	return all
}

func (c *cluster) readSettings(ctx context.Context) {
	told, err := c.adm.DescribeBrokerConfigs(ctx, c.meta.Brokers.NodeIDs()...)
	for _, broker := range told {
		err = errors.Join(err, broker.Err)
		for _, s := range broker.Configs {
			if c.settings == nil {
				c.settings = map[string][]string{}
			}
			c.settings[s.Key] = append(c.settings[s.Key], s.MaybeValue())
		}
	}
	c.hidden = err
}

func brokers(ctx context.Context, c *cluster) ([]Finding, error) {
	told, err := c.adm.ApiVersions(ctx)
	if err != nil {
		return nil, err
	}
	versions := map[string]bool{}
	for _, v := range told {
		if v.Err != nil {
			return found(Warning, fmt.Sprintf("broker %d does not answer: %s", v.NodeID, c.site.Explain(v.Err)), "partitions that it leads cannot be written", "see that it runs and that its advertised listener is reached from here"), nil
		}
		versions[v.VersionGuess()] = true
	}
	what := fmt.Sprintf("%d brokers, Kafka %s", len(c.meta.Brokers), strings.Join(slices.Sorted(maps.Keys(versions)), " and "))
	switch {
	case len(versions) > 1:
		return found(Note, what, "as in the middle of an upgrade; what only some of them know is not used", "upgrade the others"), nil
	case len(c.meta.Brokers) == 1:
		return found(Note, strings.Replace(what, "brokers", "broker", 1), "when it is away events wait in the outbox; when its disk is lost, so is the log", "run three brokers, with replication 3 and min.insync.replicas=2"), nil
	}
	return fine("%s", what), nil
}

func settingsReadable(_ context.Context, c *cluster) ([]Finding, error) {
	if c.hidden != nil {
		return found(Note, "the brokers' settings cannot be read: "+c.hidden.Error(), "what is wrong there stays unknown",
			c.acl("--cluster", "DescribeConfigs")), nil
	}
	return fine("the brokers' settings can be read"), nil
}

// setting returns what all brokers have; ok is false where it is not known.
func (c *cluster) setting(name string) (values []string, ok bool) {
	values = slices.Compact(slices.Sorted(slices.Values(c.settings[name])))
	return values, len(values) > 0 && values[0] != ""
}

// number returns the smallest of what the brokers have.
func (c *cluster) number(name string) (least int64, ok bool) {
	values, ok := c.setting(name)
	for i, v := range values {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, false
		}
		if i == 0 || n < least {
			least = n
		}
	}
	return least, ok
}

// change is the command that changes a setting of all brokers.
func change(setting, value string) string {
	return "kafka-configs.sh --bootstrap-server BROKER --alter --entity-type brokers --entity-default --add-config " + setting + "=" + value
}

// week is how long a sink may reasonably be stopped.
const week = 7 * 24 * time.Hour

func offsetsRetention(_ context.Context, c *cluster) ([]Finding, error) {
	minutes, ok := c.number("offsets.retention.minutes")
	if !ok {
		return nil, nil
	}
	kept := time.Duration(minutes) * time.Minute
	if kept < week {
		return found(Warning, fmt.Sprintf("offsets.retention.minutes is %d: %v", minutes, kept), "the group of a consumer that is stopped for longer loses its place and starts from the beginning, or the end",
			"set offsets.retention.minutes=10080 or more in server.properties and restart the brokers"), nil
	}
	return fine("the places of stopped groups are kept for %d days", kept/(24*time.Hour)), nil
}

func transactionTimeout(_ context.Context, c *cluster) ([]Finding, error) {
	limit, ok := c.number("transaction.max.timeout.ms")
	if !ok {
		return nil, nil
	}
	for _, o := range c.site.Outboxes {
		if o.Delivery != relay.AtLeastOnce && o.TransactionTimeout.Milliseconds() > limit {
			return found(Error, fmt.Sprintf("transaction.max.timeout.ms is %d, outboxes.%s.transaction_timeout is %v", limit, o.Outbox, o.TransactionTimeout),
				"the brokers refuse the relay's producers: nothing can be published", fmt.Sprintf("set transaction_timeout to %v or less, or %s", time.Duration(limit)*time.Millisecond,
					change("transaction.max.timeout.ms", strconv.FormatInt(o.TransactionTimeout.Milliseconds(), 10)))), nil
		}
	}
	return fine("transactions may take %v", time.Duration(limit)*time.Millisecond), nil
}

func uncleanElection(_ context.Context, c *cluster) ([]Finding, error) {
	values, ok := c.setting("unclean.leader.election.enable")
	if !ok {
		return nil, nil
	}
	if slices.Contains(values, "true") {
		return found(Warning, "unclean.leader.election.enable is true", "a replica that lacks acknowledged records may become leader: they are lost, and the relay's cursor with them",
			change("unclean.leader.election.enable", "false")), nil
	}
	return fine("only replicas that have everything become leader"), nil
}

func autoCreate(_ context.Context, c *cluster) ([]Finding, error) {
	values, ok := c.setting("auto.create.topics.enable")
	if !ok {
		return nil, nil
	}
	if slices.Contains(values, "true") {
		return found(Note, "auto.create.topics.enable is true", "whoever asks for a topic before the relay has made it gets one with the brokers' defaults: other partitions, a retention of days",
			"set auto.create.topics.enable=false in server.properties and restart the brokers"), nil
	}
	return fine("topics are made on purpose only"), nil
}

// internalReplication looks at the topics in which Kafka keeps transactions and groups.
func internalReplication(_ context.Context, c *cluster) ([]Finding, error) {
	var all []Finding
	want := min(len(c.meta.Brokers), 3)
	for _, name := range []string{"transaction.state.log.replication.factor", "offsets.topic.replication.factor"} {
		if n, ok := c.number(name); ok && int(n) < want {
			all = append(all, found(Warning, fmt.Sprintf("%s is %d, of %d brokers", name, n, len(c.meta.Brokers)), "when the broker that has them is away nothing can be committed, or consumed",
				fmt.Sprintf("set %s=%d, and move the topic that is there with kafka-reassign-partitions.sh", name, want))...)
		}
	}
	if n, ok := c.number("transaction.state.log.min.isr"); ok {
		if r, ok := c.number("transaction.state.log.replication.factor"); ok && n > r {
			all = append(all, found(Error, fmt.Sprintf("transaction.state.log.min.isr is %d, the topic has %d replicas", n, r), "no transaction can be committed",
				"set transaction.state.log.min.isr below transaction.state.log.replication.factor")...)
		}
	}
	if len(all) == 0 {
		return fine("transactions and groups are kept as safely as the number of brokers allows: %d", len(c.meta.Brokers)), nil
	}
	return all, nil
}
