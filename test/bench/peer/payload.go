package peer

import (
	"fmt"
	"strings"
	"sync"

	"github.com/millrace/millrace/schemas/avro"
)

const orderSchema = `{"type":"record","name":"OrderPlaced","namespace":"bench","fields":[
 {"name":"order","type":"string"},
 {"name":"customer","type":"string"},
 {"name":"status","type":"string"},
 {"name":"currency","type":"string"},
 {"name":"total","type":"long"},
 {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
   {"name":"sku","type":"string"},{"name":"quantity","type":"int"}]}}},
 {"name":"note","type":"string"}]}`

type order struct {
	Order    string `avro:"order"`
	Customer string `avro:"customer"`
	Status   string `avro:"status"`
	Currency string `avro:"currency"`
	Total    int64  `avro:"total"`
	Lines    []line `avro:"lines"`
	Note     string `avro:"note"`
}

type line struct {
	SKU      string `avro:"sku"`
	Quantity int    `avro:"quantity"`
}

var orderCodec = sync.OnceValue(func() *avro.Codec {
	codec, err := avro.New(orderSchema)
	if err != nil {
		panic(fmt.Sprintf("peer: the schema of the payload: %v", err))
	}
	return codec
})

// Payload returns the payload of event n: an order in Avro of about 300 bytes, behind the frame of schema 1. Half of it
// is as good as random, half of it is alike in all.
func Payload(n int) []byte {
	id := uint64(n)
	o := order{
		Order: hex(id) + hex(id*3), Customer: hex(id*7) + hex(id*11), Status: "CONFIRMED", Currency: "EUR", Total: int64(n % 100_000),
		Lines: []line{{hex(id * 13), 2}, {hex(id * 17), 1}},
		Note:  strings.Repeat("leave it at the back door if nobody opens ", 5)[:173],
	}
	value, err := orderCodec().AppendEncode(avro.AppendFrame(nil, 1), o)
	if err != nil {
		panic(fmt.Sprintf("peer: encode event %d: %v", n, err))
	}
	return value
}

// hex returns 16 digits that look random, the same ones for the same n (the finaliser of splitmix64).
func hex(n uint64) string {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return fmt.Sprintf("%016x", n^n>>31)
}
