package relay

import "math/bits"

// partitionOf is the partition that Java's default partitioner gives a key: murmur2 over the key, sign bit dropped,
// modulo n. It is computed here rather than by the client, because n is the count in the cursor and not the topic's.
func partitionOf(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is the 32-bit MurmurHash2 with the seed that Kafka fixed.
func murmur2(key []byte) uint32 {
	const seed, m = 0x9747b28c, 0x5bd1e995
	h := seed ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	if len(key) > 0 {
		h = (h ^ tail(key)) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}

// tail is the little-endian value of the one to three bytes that are left.
func tail(b []byte) uint32 {
	var v uint32
	for i, c := range b {
		v |= bits.RotateLeft32(uint32(c), 8*i)
	}
	return v
}
