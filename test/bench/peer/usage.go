package peer

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc's CPU times: USER_HZ, which is 100 on Linux whatever the kernel's own rate.
const tick = 10 * time.Millisecond

// cpuTime returns the CPU time that a process has used since it was started, its threads' included.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d (Linux only): %w", pid, err)
	}
	// The name, in parentheses, may hold anything; the 12th and 13th fields after it are user and system time.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the CPU time of process %d: unknown format", pid)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(user+system) * tick, nil
}

// peakMB returns the most memory that a process has had resident since it was started, in MiB.
func peakMB(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d (Linux only): %w", pid, err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			if err != nil {
				return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
			}
			return kb >> 10, nil
		}
	}
	return 0, fmt.Errorf("read the memory of process %d: no VmHWM", pid)
}

// perMillion scales CPU time of n events to a million of them, in seconds.
func perMillion(cpu time.Duration, n int) float64 {
	if n <= 0 {
		return 0
	}
	return cpu.Seconds() * 1e6 / float64(n)
}
