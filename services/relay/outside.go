package relay

// CursorTopic is the topic that holds an outbox's cursor: compacted, two partitions.
func CursorTopic(outbox string) string { return cursorTopic(outbox) }

// ParkedTopic is the topic that holds an outbox's parked events: compacted, one partition.
func ParkedTopic(outbox string) string { return parkedTopic(outbox) }

// TransactionalIDs are the two ids in turn under which an outbox is published.
func TransactionalIDs(outbox string) []string {
	return []string{transactionalID(outbox, 0), transactionalID(outbox, 1)}
}

// BatchBytes is the largest batch of one record that a relay of this configuration sends: what max.message.bytes of a topic should
// allow.
func (c Config) BatchBytes() int { return c.MaxRecordBytes + batchOverhead }
