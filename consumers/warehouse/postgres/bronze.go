package postgres

import (
	"bytes"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
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
	b = appendHeaders(b, ev)
	b = appendData(b, ev, withData)
	return appendBytes(b, ev.Payload)
}

func appendData(b []byte, ev *consumers.Event, withData bool) []byte {
	if decoded, _ := ev.Values(); !withData || decoded == nil && ev.Fields() == nil {
		return appendNull(b)
	}
	return appendSized(b, func(b []byte) []byte {
		start := len(b)
		if b = projection.AppendEventJSON(b, ev); nullIn(b[start:]) {
			b = appendJSON(b[:start], ev.Fields())
		}
		return b
	})
}

func appendHeaders(b []byte, ev *consumers.Event) []byte {
	if len(ev.RecordHeaders()) == 0 {
		return appendNull(b)
	}
	return appendSized(b, func(b []byte) []byte {
		start := len(b)
		if b = projection.AppendHeadersJSON(b, ev); !nullIn(b[start:]) {
			return b
		}
		headers := ev.Headers()
		m := make(map[string]any, len(headers))
		for name, v := range headers {
			m[plain(name)] = plain(v)
		}
		return appendJSON(b[:start], m)
	})
}

// nullIn says whether there may be a null character in JSON text: what Postgres cannot take apart.
func nullIn(text []byte) bool { return bytes.Contains(text, []byte(`\u0000`)) }

// appendSized appends what text appends, behind its length.
func appendSized(b []byte, text func([]byte) []byte) []byte {
	start := len(b)
	b = text(append(b, 0, 0, 0, 0))
	be.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}
