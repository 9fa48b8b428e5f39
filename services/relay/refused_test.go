package relay_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/services/relay"
)

// Promise 7: a topic that takes less than the relay may know of is sent smaller and smaller batches.
func TestPromise7ALimitThatMayNotBeReadDoesNotStopTheStream(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	broker.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			refused := kmsg.NewDescribeConfigsResponseResource()
			refused.ResourceType, refused.ResourceName, refused.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, refused)
		}
		return resp, nil, true
	})
	r := newRig(t, broker.ListenAddrs(), &memoryRegistry{})
	r.exec(`select outbox.emit('test.Counted', 'k', jsonb_build_object('key', 'k', 'n', n)) from generate_series(1, 200) n`)
	run := r.run(func(c *relay.Config) {
		c.Compression = "none"
		c.Topics = map[string]relay.Topic{r.topic: {Partitions: 1, Configs: map[string]string{"max.message.bytes": "4000"}}}
	})
	run.untilSeq(200)
	if run.Status().Restarts == 0 {
		t.Error("nothing was refused")
	}
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	r.checkPublished()
}
