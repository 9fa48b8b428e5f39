package bench

import (
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/millrace/millrace/schemas"
	"github.com/millrace/millrace/schemas/avro"
)

//go:embed schemas/OrderPlaced.avsc
var schemaText string

// Order is the event that every run writes, as an application would declare it. N and Stamp come first in its schema, so
// that they can be read without decoding the rest.
type Order struct {
	N          int64   `avro:"n"`
	Stamp      int64   `avro:"stamp"`
	OrderID    string  `avro:"order_id"`
	CustomerID string  `avro:"customer_id"`
	Status     string  `avro:"status"`
	Currency   string  `avro:"currency"`
	Total      int64   `avro:"total"`
	Lines      []Line  `avro:"lines"`
	Express    bool    `avro:"express"`
	Note       *string `avro:"note"`
}

// Line is a line of an Order.
type Line struct {
	SKU      string `avro:"sku"`
	Quantity int32  `avro:"quantity"`
	Price    int64  `avro:"price"`
}

// EventType is the name of the schema.
func (Order) EventType() string { return "bench.OrderPlaced" }

// keys is how many keys the events of a run have.
const keys = 10_000

// keyOf is the key of event n.
func keyOf(n int64) string { return "order-" + strconv.FormatInt(n%keys, 10) }

// randomOrder returns an order whose content compresses as little as real identifiers do.
func randomOrder(r *rand.Rand) Order {
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[r.IntN(16)]
		}
		return string(b)
	}
	words := []string{"ring twice ", "leave at the door ", "call before ", "gift wrap ", "no plastic ", "second floor "}
	note := ""
	for len(note) < 90 {
		note += words[r.IntN(len(words))]
	}
	o := Order{
		OrderID: hex(32), CustomerID: hex(32), Status: []string{"CONFIRMED", "PLACED", "PAID"}[r.IntN(3)],
		Currency: "EUR", Total: r.Int64N(1_000_000), Express: r.IntN(2) == 0, Note: &note,
	}
	for range 4 {
		o.Lines = append(o.Lines, Line{SKU: hex(24), Quantity: 1 + r.Int32N(9), Price: r.Int64N(100_000)})
	}
	return o
}

// maker makes the payloads of a backlog quickly: an Avro record is its fields one after the other, so a few thousand random
// orders are encoded once, by the codec, and only the first two fields are new in each event.
type maker struct {
	schema *schemas.Schema
	tails  [][]byte
}

// variants is how many different orders a backlog holds: together they are far larger than what lz4 looks back on.
const variants = 4096

func newMaker() (*maker, error) {
	codec, err := avro.New(schemaText)
	if err != nil {
		return nil, fmt.Errorf("compile the benchmark's schema: %w", err)
	}
	m := &maker{schema: codec.Schema(), tails: make([][]byte, variants)}
	r := rand.New(rand.NewPCG(1, 2)) // the same events in every run
	for i := range m.tails {
		whole, err := codec.AppendEncode(nil, randomOrder(r))
		if err != nil {
			return nil, fmt.Errorf("encode an order: %w", err)
		}
		m.tails[i] = whole[2:] // n and stamp are 0, one byte each
	}
	return m, nil
}

// append appends the payload of event n.
func (m *maker) append(dst []byte, n, stamp int64) []byte {
	dst = binary.AppendVarint(dst, n) // Go's signed varints are Avro's longs
	dst = binary.AppendVarint(dst, stamp)
	return append(dst, m.tails[n%variants]...)
}

// frameBytes is what the wire format puts before a payload: 0 and the schema's id.
const frameBytes = 5

var errShort = errors.New("a record's value is too short to be an event of this benchmark")

// read takes n and stamp out of a record's value.
func read(value []byte) (n, stamp int64, err error) {
	if len(value) < frameBytes+2 || value[0] != 0 {
		return 0, 0, errShort
	}
	n, used := binary.Varint(value[frameBytes:])
	if used <= 0 {
		return 0, 0, errShort
	}
	stamp, more := binary.Varint(value[frameBytes+used:])
	if more <= 0 {
		return 0, 0, errShort
	}
	return n, stamp, nil
}
