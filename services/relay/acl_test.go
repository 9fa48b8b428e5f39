package relay_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/millrace/millrace/services/relay"
	"github.com/millrace/millrace/test/harness"
)

// A user that may write to its topics and use no transactional id, on a real broker that checks: exactly-once stops with the ACLs to
// grant, at-least-once publishes, and once they are granted, exactly-once goes on where it ended.
func TestPromise3WithoutThePermissionForTransactions(t *testing.T) {
	t.Parallel()
	broker := harness.KafkaServer(t, harness.KafkaOptions{Listeners: []string{"SASL_PLAINTEXT"}, Settings: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:ANONYMOUS", // the broker itself, and the test
		"listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
		"listener.name.sasl_plaintext.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required " +
			`user_carrier="load";`,
	}})
	r := newRig(t, broker.Brokers, &memoryRegistry{})
	r.grant(kadm.NewACLs().Topics(r.topic, relay.CursorTopic(r.name), relay.ParkedTopic(r.name)).
		Operations(kadm.OpCreate, kadm.OpDescribe, kadm.OpDescribeConfigs, kadm.OpRead, kadm.OpWrite))
	as := func(change func(*relay.Config)) func(*relay.Config) {
		return func(c *relay.Config) {
			c.Kafka = []kgo.Opt{kgo.SeedBrokers(broker.Listener["SASL_PLAINTEXT"]), kgo.SASL(plain.Auth{User: "carrier", Pass: "load"}.AsMechanism())}
			change(c)
		}
	}
	r.write(load{writers: 4, transactions: 20, keys: 5, seed: 51})
	exactly := func(*relay.Config) {}

	err := r.run(as(exactly)).wait()
	var stop *relay.StopError
	if !errors.Is(err, relay.ErrNoTransactions) || !errors.As(err, &stop) {
		t.Fatalf("stopped with %v", err)
	}
	for _, want := range []string{"--transactional-id millrace." + r.name + ".", "Write", "Describe", "delivery: at-least-once"} {
		if !strings.Contains(stop.Remedy, want) {
			t.Errorf("no %q in %q", want, stop.Remedy)
		}
	}
	r.killAtPoint(relay.PointProduced, 2, as(atLeastOnce))
	run := r.run(as(atLeastOnce))
	run.untilSeq(r.rows())
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}

	// What the remedy says is enough.
	r.grant(kadm.NewACLs().ResourcePatternType(kadm.ACLPatternPrefixed).TransactionalIDs("millrace."+r.name+".").
		Operations(kadm.OpWrite, kadm.OpDescribe))
	r.write(load{writers: 4, transactions: 20, keys: 5, seed: 52})
	run = r.run(as(exactly))
	run.untilSeq(r.rows())
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkRepeats(1)
}

// grant gives the user carrier permissions.
func (r *rig) grant(b *kadm.ACLBuilder) {
	r.t.Helper()
	b = b.Allow("User:carrier").AllowHosts()
	results, err := r.admin().CreateACLs(r.t.Context(), b)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, res := range results {
		if res.Err != nil {
			r.t.Fatal(res.Err)
		}
	}
}
