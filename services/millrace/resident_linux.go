package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// releaseStart unmaps the pages of the program's own file that the start has read: initialisers of everything that is linked, most of
// which a relay never uses, some 40 MB. What is used is mapped again when it is touched, from the page cache. Only what was never
// written to is unmapped, so that nothing can be lost; whatever goes wrong is no trouble.
func releaseStart() {
	program, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range cleanMappings(maps, program) {
		// There is no slice behind these addresses, which is what the wrapper takes.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// cleanMappings are those of a file that may not be written to and hold no page that was changed.
func cleanMappings(smaps []byte, file string) []mapping {
	var out []mapping
	var at mapping
	var ours bool
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasSuffix(name, ":") {
			var from, to uintptr
			_, err := fmt.Sscanf(name, "%x-%x", &from, &to)
			perms, _, _ := strings.Cut(rest, " ")
			at, ours = mapping{from, to}, err == nil && !strings.Contains(perms, "w") && strings.HasSuffix(rest, " "+file)
			continue
		}
		if ours && name == "Anonymous:" && strings.TrimSpace(rest) == "0 kB" {
			out = append(out, at)
		}
	}
	return out
}
