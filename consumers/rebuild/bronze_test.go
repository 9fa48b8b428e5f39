package rebuild

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace/millrace/consumers"
)

// Dead letters that wait are held in memory while a partition is filled in: no more than fits, and an event that is on the dead-letter topic several times counts once.
func TestWhatIsPutAsideHasABound(t *testing.T) {
	a := asides{records: map[int64]*kgo.Record{}}
	quarter := &kgo.Record{Value: make([]byte, maxAside/4)} // shared, and never written
	for range 3 {
		for offset := range int64(4) {
			if err := a.add(offset, quarter); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := a.add(4, &kgo.Record{Key: []byte("k")})
	if consumers.Classify(err) != consumers.Systemic || len(a.records) != 4 {
		t.Errorf("%d events are held, %v", len(a.records), err)
	}
}
