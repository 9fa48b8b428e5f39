package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What the start has read is given back, and what is needed comes again.
func TestReleaseStart(t *testing.T) {
	before := residentFile(t)
	releaseStart()
	after := residentFile(t)
	t.Logf("pages of files: %d kB before, %d kB after", before, after)
	if after >= before {
		t.Errorf("%d kB of files are resident, %d kB were before", after, before)
	}
}

func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Skip("this kernel does not tell pages of files from others")
	return 0
}

// Nothing that was written to is given back: a page that was changed would come again as it was in the file.
func TestCleanMappingsAreNotWrittenTo(t *testing.T) {
	const smaps = `00400000-00500000 r-xp 00000000 08:01 42 /usr/bin/millrace
Rss:                1024 kB
Anonymous:             0 kB
00500000-00600000 r--p 00100000 08:01 42 /usr/bin/millrace
Anonymous:             4 kB
00600000-00700000 rw-p 00200000 08:01 42 /usr/bin/millrace
Anonymous:             0 kB
00700000-00800000 r--p 00200000 08:01 43 /usr/lib/libc.so
Anonymous:             0 kB
00800000-00900000 r--p 00200000 00:00 0
Anonymous:             0 kB
`
	got := cleanMappings([]byte(smaps), "/usr/bin/millrace")
	if len(got) != 1 || got[0] != (mapping{0x400000, 0x500000}) {
		t.Errorf("%x, want the first alone", got)
	}
}
