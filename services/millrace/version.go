package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build with -ldflags "-X main.version=...".
var version = "dev"

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	DuckDB  bool   `json:"duckdb"`
}

func newVersion(*app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version and what this binary was built with",
		Example: "  millrace version\n  millrace version -o json",
		Args:    takes(),
	}
	out := output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := versionInfo{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, DuckDB: cgo}
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" {
					v.Commit = s.Value
				}
			}
		}
		duck := "with DuckDB"
		if !v.DuckDB {
			duck = "without DuckDB (built with CGO_ENABLED=0)"
		}
		return out.print(cmd.OutOrStdout(), v, []string{"VERSION", "COMMIT", "GO", "PLATFORM", "PARTS"},
			[][]string{{v.Version, v.Commit, v.Go, fmt.Sprintf("%s/%s", v.OS, v.Arch), duck}})
	}
	return cmd
}
