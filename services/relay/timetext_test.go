package relay

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestTimeTextIsThatOfTheLibrary compares texts with those that time.RFC3339Nano gives: of moments near and far, in seconds that
// repeat, with fractions of any length, and beyond the years that have a text.
func TestTimeTextIsThatOfTheLibrary(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	var text timeText
	at := time.Unix(0, 0)
	for range 200_000 {
		at = nextTime(random, at)
		want := clamped(at).Format(time.RFC3339Nano)
		if got := string(text.append(nil, at)); got != want {
			t.Fatalf("%d s and %d ns: %s, want %s", at.Unix(), at.Nanosecond(), got, want)
		} else if len(got) > timeTextMost {
			t.Fatalf("%s is longer than %d", got, timeTextMost)
		}
	}
}

// nextTime is a time in the second of the last one, or anywhere.
func nextTime(random *rand.Rand, last time.Time) time.Time {
	seconds, fractions := last.Unix(), []int64{0, 1, 999_999_999, 500_000_000, 100, random.Int64N(1e9), random.Int64N(1e6) * 1000, random.Int64N(1000) * 1e6}
	switch random.IntN(8) {
	case 0:
		seconds = random.Int64N(400_000_000_000) - 100_000_000_000
	case 1:
		seconds = []int64{firstSecond, firstSecond - 1, firstSecond + 1, lastSecond, lastSecond + 1, lastSecond - 1, 0, -1}[random.IntN(8)]
	case 2:
		seconds++
	}
	return time.Unix(seconds, fractions[random.IntN(len(fractions))]).In(time.FixedZone("", random.IntN(7200)-3600))
}

// clamped is what sane has to do, said by the calendar.
func clamped(t time.Time) time.Time {
	t = t.UTC()
	if t.Year() < 1 {
		return time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 9999 {
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}
