package outbox

// Limits bound what Write accepts. Zero means the default; the function emit() has the defaults built in.
//
// Together the defaults make sure that every event fits a broker with Kafka's default message.max.bytes of 1 MiB and
// a producer that sends records of at most 1,000,000 bytes, with the frame and the headers the relay adds. Raise
// them only together with the topic's max.message.bytes.
type Limits struct {
	// Key is the longest key, in bytes. Default: 1 KiB.
	Key int
	// Payload is the largest Avro encoding of an event, in bytes. Default: 960 KiB.
	Payload int
	// Headers is the greatest number of headers of an event. Default: 32.
	Headers int
	// HeaderBytes is the size of all names and values of an event's headers together. Default: 8 KiB.
	HeaderBytes int
}

const (
	defaultKeyBytes     = 1 << 10
	defaultPayloadBytes = 960 << 10
	defaultHeaders      = 32
	defaultHeaderBytes  = 8 << 10
)

func (l Limits) withDefaults() Limits {
	setDefault(&l.Key, defaultKeyBytes)
	setDefault(&l.Payload, defaultPayloadBytes)
	setDefault(&l.Headers, defaultHeaders)
	setDefault(&l.HeaderBytes, defaultHeaderBytes)
	return l
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}
