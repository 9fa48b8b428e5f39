package warehouse

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/fold"
	"github.com/millrace/millrace/schemas/avro"
)

// Kept is a row of bronze as the backends read it, for Record.
type Kept struct {
	consumers.TopicPartition
	Offset   int64
	Key      string
	SchemaID int32
	// Time is that of the event.
	Time time.Time
	// Headers are those of the column headers, as JSON text; "" for null.
	Headers string
	// Exact are the headers where JSON does not tell them; nil for null.
	Exact []byte
	// Payload is nil if it was not kept.
	Payload []byte
}

// Record returns the record that a row of bronze was: key, value in its frame, headers and offset. Its time is the event's, which is the record's unless a
// header tells another one. It returns fold.ErrNoPayload for a row without payload.
func (k *Kept) Record() (*kgo.Record, error) {
	if k.Payload == nil {
		return nil, fmt.Errorf("%s/%d at %d: %w", k.Topic, k.Partition, k.Offset, fold.ErrNoPayload)
	}
	if k.SchemaID < 0 {
		return nil, consumers.AsSystemic(fmt.Errorf("%s/%d at %d: schema id %d in bronze is none", k.Topic, k.Partition, k.Offset, k.SchemaID))
	}
	var headers []kgo.RecordHeader
	var err error
	if k.Exact != nil {
		headers, err = exactHeaders(k.Exact)
	} else if k.Headers != "" {
		headers, err = jsonHeaders(k.Headers)
	}
	if err != nil {
		return nil, consumers.AsSystemic(fmt.Errorf("%s/%d at %d: the headers in bronze: %w", k.Topic, k.Partition, k.Offset, err))
	}
	value := append(avro.AppendFrame(make([]byte, 0, avro.FrameSize+len(k.Payload)), int(k.SchemaID)), k.Payload...)
	return &kgo.Record{
		Topic: k.Topic, Partition: k.Partition, Offset: k.Offset, Key: []byte(k.Key), Value: value, Headers: headers, Timestamp: k.Time.Truncate(time.Millisecond),
	}, nil
}

// fewHeaders are compared with each other; where there are more, they are kept exactly without a look.
const fewHeaders = 24

// ExactHeaders returns the headers of a record in a form that gives them back byte for byte; nil if their JSON does so: each name once, all text, without null
// characters and missing values.
func ExactHeaders(headers []kgo.RecordHeader) []byte {
	if inJSON(headers) {
		return nil
	}
	out := []byte{}
	for _, h := range headers {
		out = append(binary.AppendUvarint(out, uint64(len(h.Key))), h.Key...)
		if h.Value == nil {
			out = append(out, 0)
			continue
		}
		out = append(binary.AppendUvarint(out, uint64(len(h.Value))+1), h.Value...)
	}
	return out
}

func inJSON(headers []kgo.RecordHeader) bool {
	if len(headers) > fewHeaders {
		return false
	}
	for i, h := range headers {
		if h.Value == nil || !utf8.Valid(h.Value) || !utf8.ValidString(h.Key) || strings.IndexByte(h.Key, 0) >= 0 {
			return false
		}
		for _, c := range h.Value {
			if c == 0 {
				return false
			}
		}
		for _, other := range headers[:i] {
			if other.Key == h.Key {
				return false
			}
		}
	}
	return true
}

var errHeaders = errors.New("they are not as they were written")

// exactHeaders reads what ExactHeaders wrote.
func exactHeaders(b []byte) ([]kgo.RecordHeader, error) {
	var out []kgo.RecordHeader
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, errHeaders
		}
		h := kgo.RecordHeader{Key: string(b[size : size+int(n)])}
		b = b[size+int(n):]
		n, size = binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size)+1 {
			return nil, errHeaders
		}
		if n > 0 {
			h.Value = append([]byte{}, b[size:size+int(n-1)]...)
			b = b[int(n-1):]
		}
		b = b[size:]
		out = append(out, h)
	}
	return out, nil
}

// jsonHeaders reads an object of texts in its order.
func jsonHeaders(text string) ([]kgo.RecordHeader, error) {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, errHeaders
	}
	var out []kgo.RecordHeader
	for text = text[1 : len(text)-1]; text != ""; {
		key, rest, err := jsonText(text)
		if err != nil || rest == "" || rest[0] != ':' {
			return nil, errHeaders
		}
		value, rest, err := jsonText(rest[1:])
		if err != nil {
			return nil, err
		}
		out = append(out, kgo.RecordHeader{Key: key, Value: []byte(value)})
		if text = rest; text == "" {
			break
		}
		if text[0] != ',' || len(text) == 1 {
			return nil, errHeaders
		}
		text = text[1:]
	}
	return out, nil
}

// jsonText reads the string that a text begins with.
func jsonText(text string) (s, rest string, err error) {
	if text == "" || text[0] != '"' {
		return "", "", errHeaders
	}
	plain := true
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			plain = false
			i++
		case '"':
			if plain {
				return text[1:i], text[i+1:], nil
			}
			err := json.Unmarshal([]byte(text[:i+1]), &s)
			return s, text[i+1:], err
		}
	}
	return "", "", errHeaders
}
