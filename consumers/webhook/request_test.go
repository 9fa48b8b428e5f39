package webhook

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/consumers"
)

// The example of Standard Webhooks' own libraries.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	secrets, err := ReadSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
	if err != nil {
		t.Fatal(err)
	}
	at, body := time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := sign(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	both, err := ReadSecrets("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if got := sign(both, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body); !strings.HasSuffix(got, " "+want) || strings.Count(got, "v1,") != 2 {
		t.Errorf("while a secret is changed: %s", got)
	}
}

func TestASecretIsLongAndNeverTold(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", " ", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!!!", "whsec_" + strings.Repeat("QUFB", 22),
		strings.Repeat("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ", 5)} {
		if _, err := ReadSecrets(bad); err == nil || bad != "" && strings.Contains(err.Error(), "MfKQ") || strings.Contains(err.Error(), "c2hv") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func requestOf(t *testing.T, ev consumers.Event) (http.Header, string) {
	t.Helper()
	secrets, err := ReadSecrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	h, body := (&Sink{secrets: secrets}).request(&ev)
	return h, string(body)
}

func TestARequestIsACloudEventInBinaryMode(t *testing.T) {
	t.Parallel()
	ev := consumers.Event{TopicPartition: consumers.TopicPartition{Topic: "shop.orders", Partition: 3}, Offset: 7, Seq: 42, ID: "0197-ab", Key: "o 17", Type: "shop.OrderPlaced",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}.
		WithHeaders(map[string]string{"ce_source": "/shop", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "secret": "not for others"}).
		WithFields(map[string]any{"total": int64(5), "note": "ü"})
	h, body := requestOf(t, ev)
	if body != `{"note":"ü","total":5}` {
		t.Errorf("body %s", body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Ce-Specversion": "1.0", "Ce-Id": "0197-ab", "Webhook-Id": "0197-ab", "Ce-Source": "/shop",
		"Ce-Type": "shop.OrderPlaced", "Ce-Time": "2026-01-02T03:04:05.000006Z", "Ce-Partitionkey": "o%2017", "Ce-Millraceseq": "42",
		"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Secret": ""} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
}

// An event of somebody else cannot bring a header of its own, nor an id that lets the signature be read in two ways.
func TestHostileEventsStayWithinTheirHeaders(t *testing.T) {
	t.Parallel()
	ev := consumers.Event{TopicPartition: consumers.TopicPartition{Topic: "t.x"}, Offset: 7, ID: "a.1614265330.{}", Key: "k\r\nHost: evil%\x00ü\"", Type: "t"}.
		WithHeaders(map[string]string{"traceparent": "x\r\ny"}).WithFields(map[string]any{})
	h, _ := requestOf(t, ev)
	if h.Get("Ce-Partitionkey") != "k%0D%0AHost:%20evil%25%00%C3%BC%22" || h.Get("Traceparent") != "" || h.Get("Ce-Id") != ev.ID || strings.Contains(h.Get("Webhook-Id"), ".") {
		t.Errorf("%q", h)
	}
	again, _ := requestOf(t, ev)
	if again.Get("Webhook-Id") != h.Get("Webhook-Id") {
		t.Error("the id of a repetition is another")
	}
	ev.ID = ""
	h, _ = requestOf(t, ev)
	if h.Get("Ce-Id") != "t.x/0/7" || strings.ContainsAny(h.Get("Webhook-Id"), "./") {
		t.Errorf("without an id: %q", h)
	}
}
