package opensearch

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/millrace/millrace/consumers"
)

// names are the names of one generation's indices and aliases.
type names struct {
	prefix     string
	generation int
}

// index is the name of an entity's index: shop-order-g1.
func (n names) index(entity string) string {
	return fmt.Sprintf("%s-%s-g%d", n.prefix, entity, n.generation)
}

// positions is the name of the index of positions. No entity's name has a point.
func (n names) positions() string { return fmt.Sprintf("%s.positions-g%d", n.prefix, n.generation) }

// ours is the alias through which we write to an index, and read it: what was sent to an alias that is gone makes no new index.
func ours(index string) string { return index + ".rw" }

// readers is the alias that others search an entity by, in whatever generation serves. It shows what exists only.
func (n names) readers(entity string) string { return n.prefix + "-" + entity }

// parse finds entity and generation of an index that has this prefix. No entity's name has a hyphen, so a longer prefix is not taken for one.
func (n names) parse(index string) (entity string, generation int, ok bool) {
	rest, ok := strings.CutPrefix(index, n.prefix+"-")
	entity, number, found := strings.Cut(rest, "-g")
	g, err := strconv.Atoi(number)
	if !ok || !found || err != nil || strings.Contains(entity, "-") || index != (names{n.prefix, g}).index(entity) {
		return "", 0, false
	}
	return entity, g, true
}

// maxID is the length in bytes up to which a key is the id of its document; the server takes 512.
const maxID = 480

// id is the id of an entity's document: the key, or, of one that is too long or looks like it, "~" and a digest.
func id(key string) string {
	if key != "" && len(key) <= maxID && key[0] != '~' {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "~" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// partitionID is the id of the document of a partition.
func partitionID(tp consumers.TopicPartition) string {
	return tp.Topic + ":" + strconv.Itoa(int(tp.Partition))
}

func parsePartition(id string) (tp consumers.TopicPartition, ok bool) {
	topic, number, ok := strings.Cut(id, ":")
	n, err := strconv.ParseInt(number, 10, 32)
	return consumers.TopicPartition{Topic: topic, Partition: int32(n)}, ok && err == nil && topic != ""
}
