package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/services/relay"
)

// ids are the transactional ids of an outbox.
type ids struct {
	*cluster
	outbox relay.Config
}

var idChecks = []check[*ids]{
	{"transactional ids", transactionalIDs},
}

// denied says whether Kafka's authorizer refused an answer.
func denied(err error) bool {
	var auth *kadm.AuthError
	for _, e := range []error{kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.GroupAuthorizationFailed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &auth)
}

// acl is the command that grants us something.
func (c *cluster) acl(resource string, operations ...string) string {
	return fmt.Sprintf("kafka-acls.sh --bootstrap-server BROKER --add --allow-principal %s --operation %s %s",
		cmp.Or(c.site.Principal, "User:NAME"), strings.Join(operations, " --operation "), resource)
}

// shortPause and longPause are the first and the last pause before the coordinator is asked for again: a cluster that nobody has published
// to in transactions makes the topic of the coordinators when it is first asked.
const (
	shortPause = 200 * time.Millisecond
	longPause  = 1600 * time.Millisecond
)

func coordinatorAway(err error) bool {
	return errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator)
}

// describe asks for the state of the transactions.
func (i *ids) describe(ctx context.Context, names []string) error {
	told, err := i.adm.DescribeTransactions(ctx, names...)
	for _, d := range told {
		if err == nil && d.Err != nil && !errors.Is(d.Err, kerr.TransactionalIDNotFound) {
			err = d.Err
		}
	}
	return err
}

// transactionalIDs asks for the state of the transactions, which needs DESCRIBE, and looks for WRITE in the rules, where those may be
// read. To try would be to fence the relay that is at work.
func transactionalIDs(ctx context.Context, i *ids) ([]Finding, error) {
	if i.outbox.Delivery == relay.AtLeastOnce {
		return found(Note, "outboxes."+i.outbox.Outbox+".delivery is at-least-once", "after a crash events appear in their topics again; with transactions they do not", "take delivery away where the brokers have transactions"), nil
	}
	names := relay.TransactionalIDs(i.outbox.Outbox)
	prefix := strings.TrimRight(names[0], "01")
	mend := i.acl("--transactional-id "+prefix+" --resource-pattern-type prefixed", "Write", "Describe")
	const why = "the relay cannot begin a transaction: nothing is published"
	err := i.describe(ctx, names)
	for pause := shortPause; coordinatorAway(err) && pause <= longPause; pause *= 2 {
		select {
		case <-time.After(pause):
			err = i.describe(ctx, names)
		case <-ctx.Done():
			return nil, err
		}
	}
	switch {
	case denied(err):
		return found(Error, fmt.Sprintf("the transactional ids %s may not be used", strings.Join(names, " and ")), why, mend), nil
	case errors.Is(err, kerr.UnsupportedVersion):
		return found(Note, "the brokers are too old to be asked about transactions", "whether they may be used is seen when the relay starts", ""), nil
	case err != nil:
		return nil, err
	}
	for _, name := range names {
		write, denial := i.allowed(ctx, name)
		if denial != nil {
			return found(Error, "a rule denies writing with the transactional id "+name, why, i.undeny(denial)), nil
		}
		if !write {
			return fine("the transactional ids may be seen; whether they may be written is seen when the relay starts"), nil
		}
	}
	return fine("the transactional ids %s may be used", strings.Join(names, " and ")), nil
}

// allowed says whether the authorizer's rules let us write with a transactional id, or which of them denies it. Neither: they may not be
// read, we do not know who we are to it, or no rule is about us. Then a super user may all the same, and everybody where the
// authorizer is told so.
func (i *ids) allowed(ctx context.Context, id string) (write bool, denial *kadm.DescribedACL) {
	rules, err := i.adm.DescribeACLs(ctx, kadm.NewACLs().TransactionalIDs(id).ResourcePatternType(kadm.ACLPatternMatch).Operations(kadm.OpAny).Allow().AllowHosts().Deny().DenyHosts())
	if err != nil {
		return false, nil
	}
	for _, r := range rules {
		switch {
		case errors.Is(r.Err, kerr.SecurityDisabled):
			return true, nil // there is no authorizer
		case r.Err != nil:
			return false, nil
		}
		for _, a := range r.Described {
			us := i.site.Principal != "" && a.Principal == i.site.Principal || a.Principal == "User:*"
			if us && (a.Operation == kadm.OpWrite || a.Operation == kadm.OpAll) {
				if a.Permission == kmsg.ACLPermissionTypeDeny {
					return false, &a
				}
				write = true
			}
		}
	}
	return write, nil
}

// undeny is the command that takes a rule away.
func (i *ids) undeny(a *kadm.DescribedACL) string {
	return fmt.Sprintf("kafka-acls.sh --bootstrap-server BROKER --remove --deny-principal %s --deny-host %s --operation %s --transactional-id %s --resource-pattern-type %s",
		a.Principal, a.Host, a.Operation, a.Name, strings.ToLower(a.Pattern.String()))
}

// topicRights compares what we may do with a topic with what the relay does.
func topicRights(_ context.Context, t *topic) ([]Finding, error) {
	if t.have == nil || len(t.have.AuthorizedOperations) == 0 {
		return nil, nil
	}
	need := []kadm.ACLOperation{kadm.OpDescribe, kadm.OpRead, kadm.OpWrite}
	wish := []kadm.ACLOperation{kadm.OpDescribeConfigs}
	missing := func(of []kadm.ACLOperation) (names []string) {
		for _, op := range of {
			if !slices.Contains(t.have.AuthorizedOperations, op) {
				names = append(names, op.String())
			}
		}
		return names
	}
	if lacks := missing(need); len(lacks) > 0 {
		return found(Error, "we lack "+strings.Join(lacks, ", "), "the relay writes it, and reads it back when it starts", t.acl("--topic "+t.name, lacks...)), nil
	}
	if lacks := missing(wish); len(lacks) > 0 {
		return found(Warning, "we lack "+strings.Join(lacks, ", "), "neither the relay nor this command sees its settings: how large a record may be, whether it is compacted", t.acl("--topic "+t.name, lacks...)), nil
	}
	return fine("we may read and write it"), nil
}
