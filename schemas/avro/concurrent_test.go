package avro_test

import (
	"math/big"
	"sync"
	"testing"
	"time"
)

func TestACodecIsSafeForConcurrentUse(t *testing.T) {
	codec := newCodec(t, structSchema)
	want := mustEncode(t, codec, map[string]any{"id": "o", "total": 1, "placed_at": 0, "lines": []line{{"a", 1}}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				o := order{base: base{ID: "o", PlacedAt: time.Unix(0, 0)}, Total: big.NewRat(1, 1), Lines: []line{{"a", 1}}}
				got, err := codec.AppendEncode(nil, &o)
				if err != nil || string(got) != string(want) {
					t.Errorf("%x, %v", got, err)
				}
				if _, err := codec.Decode(got); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
