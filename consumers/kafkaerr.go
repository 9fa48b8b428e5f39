package consumers

import (
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
)

// refusals are answers of Kafka that no retry changes.
var refusals = []error{
	kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.SecurityDisabled,
	kerr.InvalidGroupID, kerr.InvalidTopicException, kerr.PolicyViolation, kerr.UnsupportedVersion,
}

// ClassifyKafka marks an error of Kafka as systemic if asking again cannot help: no right, no credentials, a name that cannot be. Others it returns as they
// are, and nil for nil.
func ClassifyKafka(err error) error {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return AsSystemic(err)
		}
	}
	return err
}
