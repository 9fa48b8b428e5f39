package postgres

import (
	"github.com/millrace/millrace/consumers"
)

// copyBronze appends events as they came.
func copyBronze(s space) string {
	return "COPY " + s.bronze + `.events (topic, partition, "offset", key, type, event_id, seq, event_time, schema_id, headers, data, payload) FROM STDIN (FORMAT binary)`
}

const bronzeColumns = 12

// appendEvent appends an event as a row of bronze. Texts are made fit for Postgres; what came, byte for byte, is the payload.
func appendEvent(b []byte, ev *consumers.Event, withData bool) []byte {
	b = be.AppendUint16(b, bronzeColumns)
	b = appendText(b, ev.Topic)
	b = appendInt(b, ev.Partition)
	b = appendLong(b, ev.Offset)
	b = appendText(b, plain(ev.Key))
	b = appendText(b, plain(ev.Type))
	b = appendText(b, plain(ev.ID))
	b = appendLong(b, ev.Seq)
	b = appendLong(b, micros(ev.Time))
	b = appendInt(b, int32(ev.SchemaID))
	b = appendHeaders(b, ev.Headers())
	b = appendData(b, ev, withData)
	return appendBytes(b, ev.Payload)
}

func appendData(b []byte, ev *consumers.Event, withData bool) []byte {
	if !withData {
		return appendNull(b)
	}
	fields := ev.Fields()
	if fields == nil {
		return appendNull(b)
	}
	start := len(b)
	b = appendJSON(be.AppendUint32(b, 0), fields)
	be.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

func appendHeaders(b []byte, h map[string]string) []byte {
	if len(h) == 0 {
		return appendNull(b)
	}
	m := make(map[string]any, len(h))
	for name, v := range h {
		m[plain(name)] = plain(v)
	}
	start := len(b)
	b = appendJSON(be.AppendUint32(b, 0), m)
	be.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}
