package relay

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// pieces is a connection on which so many bytes come at a time.
type pieces struct {
	r    io.Reader
	size int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.size)]) }

func TestAGathererLosesNothing(t *testing.T) {
	answer := make([]byte, 3*gatherBuffer+12345)
	for i := range answer {
		answer[i] = byte(i * 7)
	}
	for _, size := range []int{1000, 8 << 10, gatherBuffer - 1, gatherBuffer} {
		synctest.Test(t, func(t *testing.T) { // whose clock does not wait for the pauses
			got, err := io.ReadAll(&gatherer{r: pieces{bytes.NewReader(answer), size}, buffer: make([]byte, gatherBuffer)})
			if err != nil || !bytes.Equal(got, answer) {
				t.Errorf("%d bytes at a time: %d of %d, %v", size, len(got), len(answer), err)
			}
		})
	}
}

// What came before an error is handed over, and a timeout is over when the next read goes well: the connection lives on.
func TestAGathererPassesErrorsOn(t *testing.T) {
	g := &gatherer{r: iotest.TimeoutReader(pieces{bytes.NewReader([]byte("answered")), 4}), buffer: make([]byte, gatherBuffer)}
	var got []byte
	for _, want := range []error{nil, iotest.ErrTimeout, nil, io.EOF} {
		b := make([]byte, 16)
		n, err := g.Read(b)
		if got = append(got, b[:n]...); !errors.Is(err, want) {
			t.Errorf("behind %q: %v, want %v", got, err, want)
		}
	}
	if string(got) != "answered" {
		t.Errorf("read %q", got)
	}
}

// Short answers, which all are where little happens, are not waited for.
func TestOnlyLongAnswersAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gatherer{r: pieces{bytes.NewReader(make([]byte, 100*gatherFrom)), 8 << 10}, w: io.Discard, buffer: make([]byte, gatherBuffer)}
		waited := func(n int) time.Duration {
			began := time.Now()
			if _, err := io.ReadFull(g, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		for range 10 {
			if _, err := g.Write([]byte("asked")); err != nil {
				t.Fatal(err)
			}
			if d := waited(gatherFrom); d != 0 {
				t.Errorf("a short answer was waited for: %v", d)
			}
		}
		if d := waited(2 * gatherFrom); d == 0 {
			t.Error("a long answer was read piece by piece")
		}
	})
}
