package webhook

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/consumers"
	"github.com/millrace/millrace/consumers/projection"
)

// Headers of the topic's records that requests repeat.
const (
	headerSource = "ce_source"
	headerType   = "ce_type"
	headerTrace  = "traceparent"
)

var (
	plainID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	trace   = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

// eventID is the event's id; of one that has none, its place on its topic, which is as good.
func eventID(ev *consumers.Event) string {
	return cmp.Or(ev.ID, fmt.Sprintf("%s/%d/%d", ev.Topic, ev.Partition, ev.Offset))
}

// messageID is the id for the signature. One with a dot would let id and body be cut elsewhere, so an unusual id is hashed.
func messageID(id string) string {
	if plainID.MatchString(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256_" + hex.EncodeToString(sum[:])
}

// request makes headers and body. Of the same event they are the same, but for the time and what is signed with it.
func (s *Sink) request(ev *consumers.Event) (http.Header, []byte) {
	body := projection.AppendEventJSON(nil, ev)
	id, at := eventID(ev), time.Now()
	h := http.Header{}
	set := func(name, value string) { h.Set(name, percent(value)) }
	h.Set("Content-Type", "application/json")
	h.Set("Ce-Specversion", "1.0")
	set("Ce-Id", id)
	set("Ce-Source", cmp.Or(ev.Header(headerSource), "/"+ev.Topic))
	set("Ce-Type", cmp.Or(ev.Header(headerType), ev.Type))
	h.Set("Ce-Time", ev.Time.UTC().Format(time.RFC3339Nano))
	set("Ce-Partitionkey", ev.Key)
	h.Set("Ce-Millraceseq", strconv.FormatInt(ev.Seq, 10))
	if parent := ev.Header(headerTrace); trace.MatchString(parent) {
		h.Set("Traceparent", parent)
	}
	h.Set("Webhook-Id", messageID(id))
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Webhook-Signature", sign(s.secrets, messageID(id), at, body))
	return h, body
}

// percent encodes what cannot stand in a header, as CloudEvents' binding says: all but printable ASCII, and blank, quote and percent. So no event
// can bring a header of its own.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
