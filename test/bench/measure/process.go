package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is the unit of CPU times under /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// CPU returns the CPU seconds, user and system, that a process has used itself; 0 if it is gone. Resolution: 10 ms.
func CPU(pid int) float64 {
	fields := stat(pid)
	return seconds(fields, 11, 12)
}

// TreeCPU returns the CPU seconds of a process and its children: the living ones and those it has waited for.
func TreeCPU(pid int) float64 {
	total := seconds(stat(pid), 11, 12, 13, 14)
	for _, child := range children(pid) {
		total += CPU(child)
	}
	return total
}

// stat returns the fields of /proc/PID/stat after the command's name; nil if the process is gone.
func stat(pid int) [][]byte {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
}

func seconds(fields [][]byte, at ...int) float64 {
	var ticks int64
	for _, i := range at {
		if i < len(fields) {
			n, _ := strconv.ParseInt(string(fields[i]), 10, 64) // the kernel wrote it
			ticks += n
		}
	}
	return float64(ticks) / ticksPerSecond
}

func children(pid int) []int {
	var out []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		raw, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(raw)) {
			if child, err := strconv.Atoi(field); err == nil {
				out = append(out, child)
			}
		}
	}
	return out
}

// Memory is what a process holds, in MiB.
type Memory struct {
	Peak float64 // the most it was ever resident (VmHWM), pages of its binary included
	Now  float64 // resident now (VmRSS)
	Anon float64 // of Now, what is its own and not pages of files (RssAnon)
}

// MemoryOf reads /proc/PID/status; zeros if the process is gone.
func MemoryOf(pid int) Memory {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var m Memory
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "VmHWM":
			m.Peak = kib / 1024
		case "VmRSS":
			m.Now = kib / 1024
		case "RssAnon":
			m.Anon = kib / 1024
		}
	}
	return m
}

// BusyCPU returns the CPU seconds that the whole machine has spent on anything but idling since it was started.
func BusyCPU() float64 {
	raw, _ := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	fields := bytes.Fields(line)
	return seconds(fields, 1, 2, 3, 6, 7, 8) // user nice system irq softirq steal; not idle, not iowait
}
