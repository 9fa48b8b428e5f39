package relay

import (
	"testing"
	"time"
)

func TestHowFarFromNowATopicTakesTimestamps(t *testing.T) {
	l := newLimits(Config{Outbox: "test"}.WithDefaults(), map[string]int{})
	for _, c := range []struct {
		before, after string
		want          span
	}{
		{"9223372036854775807", "3600000", span{0, maxAhead}},
		{"9223372036854775807", "9223372036854775807", span{0, maxAhead}},
		{"86400000", "60000", span{24*time.Hour - spare, 30 * time.Second}},
		{"1000", "0", span{500 * time.Millisecond, 0}},
		{"0", "-1", span{time.Millisecond, maxAhead}},
		{"", "soon", span{0, maxAhead}},
	} {
		topic := c.before + "/" + c.after
		l.setSpan(topic, configBefore, c.before)
		l.setSpan(topic, configAfter, c.after)
		if got := l.span(topic); got != c.want {
			t.Errorf("%s: %v, want %v", topic, got, c.want)
		}
	}
}
