package relay

import (
	"fmt"
	"strings"
)

// Names of what belongs to one outbox on Kafka.
func cursorTopic(outbox string) string { return "__millrace." + outbox + ".cursor" }
func parkedTopic(outbox string) string { return "__millrace." + outbox + ".parked" }

// transactionalID is the id that transaction t is written with.
func transactionalID(outbox string, t int64) string {
	return fmt.Sprintf("%s%d", transactionalIDPrefix(outbox), t%2)
}

func transactionalIDPrefix(outbox string) string { return "millrace." + outbox + "." }

// internal says whether a topic is the relay's own. Events may not name one.
func internal(topic string) bool { return strings.HasPrefix(topic, "__") }

// maxTopicName is Kafka's limit, in bytes.
const maxTopicName = 249

// topicNameFault says why events may not be published to a topic of this name; empty if they may.
func topicNameFault(name string) string {
	switch {
	case name == "":
		return "the topic's name is empty"
	case len(name) > maxTopicName:
		return fmt.Sprintf("the topic's name has %d bytes, Kafka allows %d", len(name), maxTopicName)
	case name == "." || name == "..":
		return "Kafka does not allow this topic name"
	case internal(name):
		return "topics that begin with two underscores are internal"
	}
	for _, c := range []byte(name) {
		if !topicByte(c) {
			return "Kafka allows only a-z, A-Z, 0-9, '.', '_' and '-' in a topic's name"
		}
	}
	return ""
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
