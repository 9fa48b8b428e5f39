package relay

import "time"

// The years 1 to 9999 in Unix seconds: all that RFC 3339 can say. Postgres knows more.
const (
	firstSecond = -62135596800 // 0001-01-01T00:00:00Z
	lastSecond  = 253402300799 // 9999-12-31T23:59:59Z
)

// sane brings a time into these years.
func sane(t time.Time) time.Time {
	switch s := t.Unix(); {
	case s < firstSecond:
		return time.Unix(firstSecond, 0).UTC()
	case s > lastSecond:
		return time.Unix(lastSecond, 0).UTC()
	}
	return t.UTC()
}

// timeText writes times as time.RFC3339Nano does. Most events occurred in the second of the one before, whose text is kept: the
// calendar was a sixteenth of the CPU that a drain needed.
type timeText struct {
	second int64
	text   []byte // of the second, without the zone; empty before the first
}

// timeTextMost is the longest that append adds.
const timeTextMost = len("9999-12-31T23:59:59.999999999Z")

// append adds the text of t, brought into the years that have one.
func (x *timeText) append(dst []byte, t time.Time) []byte {
	t = sane(t)
	if s := t.Unix(); s != x.second || len(x.text) == 0 {
		x.second, x.text = s, t.AppendFormat(x.text[:0], "2006-01-02T15:04:05")
	}
	dst = append(dst, x.text...)
	if nanos := t.Nanosecond(); nanos != 0 {
		dst = appendFraction(dst, nanos)
	}
	return append(dst, 'Z')
}

// appendFraction adds a fraction of a second, without the zeros at its end. nanos is not 0.
func appendFraction(dst []byte, nanos int) []byte {
	digits := 9
	for ; nanos%10 == 0; nanos /= 10 {
		digits--
	}
	var text [10]byte
	text[0] = '.'
	for i := digits; i > 0; i-- {
		text[i] = byte('0' + nanos%10)
		nanos /= 10
	}
	return append(dst, text[:digits+1]...)
}
