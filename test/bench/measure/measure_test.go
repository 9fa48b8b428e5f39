package measure

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := Median(c.in); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) || !math.IsNaN(Percentile(nil, 0.5)) {
		t.Error("of nothing there is no median")
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for p, want := range map[float64]float64{0: 1, 0.5: 50, 0.95: 95, 0.99: 99, 0.999: 100, 1: 100} {
		if got := Percentile(hundred, p); got != want {
			t.Errorf("Percentile(1..100, %v) = %v, want %v", p, got, want)
		}
	}
	if got := Percentile([]float64{7, 8}, 0.99); got != 8 {
		t.Errorf("of two values the greater is the p99: %v", got)
	}
}

// burn uses some CPU time, visible at a resolution of 10 ms.
func burn(enough func() bool) {
	for x := 1.0; !enough(); {
		for range 1_000_000 {
			x = math.Sqrt(x + 1)
		}
	}
}

func TestCPUOfThisProcessGrows(t *testing.T) {
	me := os.Getpid()
	before, machine := CPU(me), BusyCPU()
	burn(func() bool { return CPU(me) >= before+0.05 && BusyCPU() > machine })
	if tree := TreeCPU(me); tree < CPU(me)-0.02 {
		t.Errorf("with its children it has used less: %v", tree)
	}
}

func TestTreeCPUCountsChildrenThatEnded(t *testing.T) {
	before, mine := TreeCPU(os.Getpid()), CPU(os.Getpid())
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	child := TreeCPU(os.Getpid()) - before - (CPU(os.Getpid()) - mine)
	if child < 0.01 {
		t.Errorf("the child counts for %v s", child)
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	block := bytes.Repeat([]byte{1}, 32<<20)
	m := MemoryOf(os.Getpid())
	if m.Peak < m.Now || m.Now < m.Anon || m.Anon < 32 {
		t.Errorf("%+v with a block of %d MiB", m, len(block)>>20)
	}
	if gone := MemoryOf(1 << 30); gone != (Memory{}) {
		t.Errorf("a process that is not there holds %+v", gone)
	}
}

func TestThisMachine(t *testing.T) {
	if m := ThisMachine(); m.Cores < 1 || m.MemoryGB <= 0 || m.CPU == "" {
		t.Errorf("%+v", m)
	}
}
