package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// maxUnlisted bounds the topics that events name and the configuration does not: the cursor holds each, and is written with
// every transaction.
const maxUnlisted = 1000

// firstUse takes a topic into the cursor. Seq goes on from what others have left there: sinks skip what is not above it.
func (f *framer) firstUse(ctx context.Context, topic string, next *cursor) (*fault, error) {
	if wrong := f.checkRoom(topic, next); wrong != nil {
		return wrong, nil
	}
	if err := f.ids.outside(); err != nil {
		return nil, err
	}
	n, err := f.partitions(ctx, topic)
	if err != nil {
		return f.topicFault(topic, err)
	}
	seq, err := f.highest(ctx, topic)
	if err != nil {
		return f.topicFault(topic, err)
	}
	next.Seq = max(next.Seq, seq)
	next.Partitions[strings.Clone(topic)] = n
	return nil, nil
}

// checkRoom says whether one more topic may be published to.
func (f *framer) checkRoom(topic string, next *cursor) *fault {
	if _, listed := f.cfg.Topics[topic]; listed || len(next.Partitions) < maxUnlisted {
		return nil
	}
	unlisted := 0
	for name := range next.Partitions {
		if _, listed := f.cfg.Topics[name]; !listed {
			unlisted++
		}
	}
	if unlisted < maxUnlisted {
		return nil
	}
	return faultf(ReasonTopic, "%d topics that are not configured are published to already, no more are taken: configure this one", unlisted)
}

// topicFault parks the event when the broker refuses to make or show a topic that nobody configured. A configured one is
// waited for.
func (f *framer) topicFault(topic string, err error) (*fault, error) {
	if _, listed := f.cfg.Topics[topic]; listed || !refusesTopic(err) {
		return nil, err
	}
	return faultf(ReasonTopic, "the broker refuses it: %v", err), nil
}

func refusesTopic(err error) bool {
	for _, final := range []error{kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation,
		kerr.InvalidTopicException, kerr.InvalidConfig, kerr.InvalidReplicationFactor} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
