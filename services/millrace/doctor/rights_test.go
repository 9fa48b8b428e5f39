package doctor

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/services/relay"
)

// A cluster whose coordinators are just being made is asked again; one that has none is told of.
func TestACoordinatorThatComesInAMoment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		refusals int32
		severity Severity
		what     string
	}{{2, OK, "the transactional ids"}, {1 << 20, Warning, "COORDINATOR_NOT_AVAILABLE"}} {
		broker, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(broker.Close)
		var asked atomic.Int32
		broker.ControlKey(int16(kmsg.DescribeTransactions), func(req kmsg.Request) (kmsg.Response, error, bool) {
			broker.KeepControl()
			code := kerr.TransactionalIDNotFound.Code
			if asked.Add(1) <= c.refusals {
				code = kerr.CoordinatorNotAvailable.Code
			}
			resp := req.ResponseKind().(*kmsg.DescribeTransactionsResponse)
			for _, id := range req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs {
				state := kmsg.NewDescribeTransactionsResponseTransactionState()
				state.TransactionalID, state.ErrorCode = id, code
				resp.TransactionStates = append(resp.TransactionStates, state)
			}
			return resp, nil, true
		})
		s := Site{
			Outboxes: []relay.Config{shopOutbox().WithDefaults()}, Kafka: []kgo.Opt{kgo.SeedBrokers(broker.ListenAddrs()...)},
			Explain: func(err error) error { return err }, Timeout: testTimeout,
		}
		Report{s.kafka(t.Context())}.wants(t, "transactional ids", c.severity, c.what, "")
	}
}

// A Postgres that is tried with TLS and without says everything twice.
func TestAnErrorIsToldOnce(t *testing.T) {
	err := errors.New("failed to connect to `user=a`:\n\tdial: refused\n\tdial: refused")
	s := Site{Explain: func(err error) error { return err }}
	if got := s.away("postgres", "shop", "why", err)[0].What; got != "failed to connect to `user=a`: dial: refused" {
		t.Error(got)
	}
}
