package relay

import (
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The vectors are those of Apache Kafka's own test of Utils.murmur2.
func TestMurmur2IsJavas(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitionIsTheJavaClients(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	theirs := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for range 20_000 {
		key := make([]byte, 1+rnd.IntN(40))
		for i := range key {
			key[i] = byte(rnd.Uint32())
		}
		n := 1 + rnd.IntN(60)
		want := theirs.Partition(&kgo.Record{Key: key}, n)
		if got := partitionOf(key, int32(n)); int(got) != want {
			t.Fatalf("partitionOf(%x, %d) = %d, want %d", key, n, got, want)
		}
	}
}
