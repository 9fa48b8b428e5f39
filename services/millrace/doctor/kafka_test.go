package doctor

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

func shopOutbox() relay.Config {
	return relay.Config{Outbox: "shop", Topics: map[string]relay.Topic{"orders": {Partitions: 12}, "good": {Partitions: 2}, "absent": {Partitions: 1}}}
}

// A broker with every fault that a broker can have, and an authorizer.
func TestFaultsOfKafka(t *testing.T) {
	t.Parallel()
	broker := harness.KafkaServer(t, harness.KafkaOptions{Listeners: []string{"SASL_PLAINTEXT"}, Settings: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
		"listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
		"listener.name.sasl_plaintext.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required ` +
			`user_carrier="x" user_guest="x";`,
		"offsets.retention.minutes": "60", "transaction.max.timeout.ms": "10000", "unclean.leader.election.enable": "true", "auto.create.topics.enable": "true",
		"transaction.state.log.min.isr": "2",
	}})
	as := func(user string, outbox relay.Config) Report {
		t.Helper()
		s := Site{
			Outboxes: []relay.Config{outbox.WithDefaults()}, Principal: "User:" + user, Timeout: 0,
			Kafka:   []kgo.Opt{kgo.SeedBrokers(broker.Listener["SASL_PLAINTEXT"]), kgo.SASL(plain.Auth{User: user, Pass: "x"}.AsMechanism())},
			Explain: func(err error) error { return err },
		}
		s.Timeout = testTimeout
		return Report{s.kafka(t.Context())}
	}
	adm := kadm.NewClient(broker.Client(t))
	// until looks until the broker has taken note of new rules.
	until := func(check string, severity Severity, what string) (r Report) {
		t.Helper()
		await(t, func() bool {
			r = as("carrier", shopOutbox())
			for _, f := range r.Findings {
				if f.Check == check && strings.Contains(f.What, what) {
					return f.Severity == severity
				}
			}
			return false
		})
		return r
	}
	allow := func(b *kadm.ACLBuilder) {
		t.Helper()
		if _, err := adm.CreateACLs(t.Context(), b.Allow("User:carrier").AllowHosts()); err != nil {
			t.Fatal(err)
		}
	}
	shop := shopOutbox()
	broker.CreateTopic(t, "orders", 4, "cleanup.policy", "compact", "retention.ms", "86400000", "max.message.bytes", "5000", "min.insync.replicas", "2")
	broker.CreateTopic(t, "good", 2, "retention.ms", "-1")
	broker.CreateTopic(t, relay.CursorTopic("shop"), 1, "cleanup.policy", "delete")
	broker.CreateTopic(t, relay.ParkedTopic("shop"), 1, "cleanup.policy", "compact,delete")

	// The guest may do nothing.
	r := as("guest", shop)
	r.wants(t, "transactional ids", Error, "millrace.shop.0 and millrace.shop.1", "--allow-principal User:guest --operation Write --operation Describe --transactional-id millrace.shop. --resource-pattern-type prefixed")
	r.wants(t, "rights", Error, "orders", "--operation Write")
	r.wants(t, "settings", Note, "cannot be read", "--operation DescribeConfigs --cluster")

	// The carrier may see and read, but not write.
	allow(kadm.NewACLs().Topics("*").Operations(kadm.OpDescribe, kadm.OpRead))
	allow(kadm.NewACLs().TransactionalIDs("millrace.shop.").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpDescribe))
	r = until("rights", Error, "orders: we lack WRITE")
	r.wants(t, "rights", Error, "orders: we lack WRITE", "--allow-principal User:carrier --operation WRITE --topic orders")

	// It may write, but not see how the topics are set.
	allow(kadm.NewACLs().Topics("*").Operations(kadm.OpWrite))
	until("rights", Warning, "orders: we lack DESCRIBE_CONFIGS").wants(t, "rights", Warning, "orders: we lack", "--operation DESCRIBE_CONFIGS --topic orders")

	// Everything it needs: what is left is what is wrong with the broker and its topics.
	allow(kadm.NewACLs().Topics("*").Operations(kadm.OpDescribeConfigs))
	allow(kadm.NewACLs().TransactionalIDs("millrace.shop.").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpWrite))
	allow(kadm.NewACLs().Clusters().Operations(kadm.OpDescribe, kadm.OpDescribeConfigs))
	until("rights", OK, "orders")
	until("transactional ids", OK, "may be used")
	r = until("settings", OK, "can be read")
	r.wants(t, "transactional ids", OK, "may be used", "")
	r.wants(t, "rights", OK, "orders", "")
	r.wants(t, "offsets.retention.minutes", Warning, "1h0m0s", "offsets.retention.minutes=10080")
	r.wants(t, "transaction.max.timeout.ms", Error, "outboxes.shop.transaction_timeout is 40s", "transaction_timeout to 10s")
	r.wants(t, "unclean.leader.election.enable", Warning, "true", "unclean.leader.election.enable=false")
	r.wants(t, "auto.create.topics.enable", Note, "true", "auto.create.topics.enable=false")
	r.wants(t, "internal topics", Error, "transaction.state.log.min.isr is 2", "transaction.state.log.min.isr")
	r.wants(t, "brokers", Note, "1 broker", "three brokers")
	r.wants(t, "partitions", Warning, "orders: 4 partitions where the configuration says 12", "outboxes.shop.topics.orders.partitions to 4")
	r.wants(t, "min.insync.replicas", Error, "orders: min.insync.replicas is 2, it has 1", "min.insync.replicas=1")
	r.wants(t, "cleanup.policy", Warning, "orders: cleanup.policy is compact", "cleanup.policy=delete")
	r.wants(t, "retention.ms", Warning, "orders: retention is 1d where the configuration says forever", "retention.ms=-1")
	r.wants(t, "max.message.bytes", Warning, "orders: max.message.bytes is 5000", "max.message.bytes=1001024")
	r.wants(t, "partitions", Error, relay.CursorTopic("shop")+": 1 partitions", "another name")
	r.wants(t, "cleanup.policy", Error, relay.CursorTopic("shop")+": cleanup.policy is delete", "cleanup.policy=compact")
	r.wants(t, "cleanup.policy", Error, relay.ParkedTopic("shop")+": cleanup.policy is compact,delete", "cleanup.policy=compact")
	r.wants(t, "topic", Note, "absent: does not exist", "--create --topic absent --partitions 1")
	for _, f := range r.Findings {
		if rank(f.Severity) > rank(Note) && strings.HasPrefix(f.What, "good:") {
			t.Errorf("nothing is wrong with it: %+v", f)
		}
	}
	shop.Topics["orders"] = relay.Topic{Partitions: 4, Replication: 3}
	r = as("carrier", shop)
	r.wants(t, "replication", Warning, "orders: replication 1 where the configuration says 3", "kafka-reassign-partitions.sh")
	r.wants(t, "partitions", OK, "orders", "")

	// Who chose to do without transactions needs no right to them, and hears what that means.
	shop.Delivery = relay.AtLeastOnce
	r = as("guest", shop)
	r.wants(t, "transactional ids", Note, "at-least-once", "delivery")
	as("carrier", shop).wants(t, "transaction.max.timeout.ms", OK, "10s", "")

	// What one rule allows another may deny.
	deny := kadm.NewACLs().TransactionalIDs("millrace.shop.").ResourcePatternType(kadm.ACLPatternPrefixed).Operations(kadm.OpWrite).Deny("User:carrier").DenyHosts()
	if _, err := adm.CreateACLs(t.Context(), deny); err != nil {
		t.Fatal(err)
	}
	until("transactional ids", Error, "a rule denies").wants(t, "transactional ids", Error, "millrace.shop.0",
		"--remove --deny-principal User:carrier --deny-host * --operation WRITE --transactional-id millrace.shop. --resource-pattern-type prefixed")

	// It disturbed nobody: the ids it asked about were never begun.
	told, err := adm.ListTransactions(t.Context(), nil, nil)
	if err != nil || len(told) != 0 {
		t.Errorf("it left %v, %v", told, err)
	}
}
