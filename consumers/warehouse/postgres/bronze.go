package postgres

import (
	"bytes"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
	"github.com/millrace/millrace/consumers/warehouse"
)

// copyBronze appends events as they came.
func copyBronze(s space) string {
	return "COPY " + s.bronzeBase + ".events (" + bronzeNames + ", _headers) FROM STDIN (FORMAT binary)"
}

// bronzeQuery is what the view of readers shows.
func bronzeQuery(s space) string {
	return "SELECT " + bronzeNames + " FROM " + s.bronzeBase + ".events"
}

const bronzeNames = `topic, partition, "offset", key, type, event_id, seq, event_time, schema_id, headers, data, payload`

const bronzeColumns = 13 // with _headers

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
	exact := warehouse.ExactHeaders(ev.RecordHeaders())
	b = appendHeaders(b, ev, exact == nil)
	b = appendData(b, ev, withData)
	b = appendBytes(b, ev.Payload)
	if exact == nil {
		return appendNull(b)
	}
	return appendBytes(b, exact)
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

// appendHeaders appends the headers as JSON; plainly says that there is no null character in them.
func appendHeaders(b []byte, ev *consumers.Event, plainly bool) []byte {
	if len(ev.RecordHeaders()) == 0 {
		return appendNull(b)
	}
	return appendSized(b, func(b []byte) []byte {
		start := len(b)
		if b = projection.AppendHeadersJSON(b, ev); plainly || !nullIn(b[start:]) {
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
