package avro

import (
	"errors"
	"math"
	"math/big"
	"time"
)

var (
	errInstant = errors.New(`is not a time such as "2024-05-01T12:30:00Z" (RFC 3339)`)
	errZone    = errors.New("has a zone other than UTC, which a local timestamp cannot keep")
	errDate    = errors.New(`is not a date such as "2024-05-01"`)
	errClock   = errors.New(`is not a time of day such as "12:30:00"`)
	errRange   = errors.New("is outside the range of the schema's type")
)

const localLayout = "2006-01-02T15:04:05"

// parseInstant reads the text of a timestamp. A local one has no zone, or says UTC.
func parseInstant(text string, local bool) (time.Time, error) {
	if local {
		if t, err := time.Parse(localLayout, text); err == nil {
			return t, nil
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, errInstant
	}
	if _, offset := t.Zone(); local && offset != 0 {
		return t, errZone
	}
	return t, nil
}

// parseDate reads a date, or the date of a time as it is written: the calendar day of whoever wrote it.
func parseDate(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, errDate
	}
	return t, nil
}

// parseClock reads a time of day as the duration since midnight.
func parseClock(text string) (time.Duration, error) {
	t, err := time.Parse(time.TimeOnly, text)
	if err != nil {
		return 0, errClock
	}
	return t.Sub(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)), nil
}

// epochDay counts the days from 1970-01-01 to the calendar day of t in t's own zone.
func epochDay(t time.Time) (int64, error) {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60)
	if day < math.MinInt32 || day > math.MaxInt32 {
		return 0, errRange
	}
	return day, nil
}

// epoch counts whole units from 1970 to t, rounding down: a finer time than the unit is cut to it.
func epoch(t time.Time, unit time.Duration, local bool) (int64, error) {
	if local {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	}
	perSecond := int64(time.Second / unit)
	seconds, rest := t.Unix(), int64(t.Nanosecond())/int64(unit)
	if limit := math.MaxInt64/perSecond - 1; seconds > -limit && seconds < limit {
		return seconds*perSecond + rest, nil
	}
	n := new(big.Int).Mul(big.NewInt(seconds), big.NewInt(perSecond))
	n.Add(n, big.NewInt(rest))
	if !n.IsInt64() {
		return 0, errRange
	}
	return n.Int64(), nil
}

// clockUnits counts whole units in a time of day, which must lie within one day.
func clockUnits(d, unit time.Duration) (int64, error) {
	if d < 0 || d >= 24*time.Hour {
		return 0, errRange
	}
	return int64(d / unit), nil
}
