package relay_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/services/relay"
)

// Promise 3, at least once: of a page that is several batches to a partition the topic refuses the first ones for their size, and would
// take the last. It must not come first: whatever was sent cannot be taken back.
func TestPromise3AtLeastOnceNothingOvertakesARefusedBatch(t *testing.T) {
	t.Parallel()
	for name, idempotent := range map[string]bool{"idempotent": true, "not idempotent": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
				resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
				return resp, nil, !idempotent
			})
			c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				return &kmsg.DescribeConfigsResponse{Version: req.GetVersion()}, nil, true // it may not know what the topic takes
			})
			r := newRig(t, c.ListenAddrs(), &memoryRegistry{})
			r.exec(`select outbox.emit('test.Counted', 'k', jsonb_build_object('key', 'k', 'n', n, 'pad', repeat('x', 200))) from generate_series(1, 5000) n`)
			run := r.run(func(c *relay.Config) {
				atLeastOnce(c)
				c.Compression, c.PageSize = "none", 5000
				c.Topics = map[string]relay.Topic{r.topic: {Partitions: 1, Configs: map[string]string{"max.message.bytes": "600000"}}}
			})
			run.untilSeq(5000)
			if run.Status().Restarts == 0 {
				t.Error("nothing was refused")
			}
			if err := run.stop(); err != nil {
				t.Fatal(err)
			}
			r.checkRepeats(0)
		})
	}
}
