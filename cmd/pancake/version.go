package main

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=v1.2.3.
var version string

// buildVersion is what the linker said, else what Go recorded of the module.
func buildVersion() string {
	module := ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		module = info.Main.Version
	}
	return cmp.Or(version, module, "dev")
}

// versionOutput is what "version -o json" prints.
type versionOutput struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersionCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: examples("pancake version", "pancake version -o json"),
		Args:    arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			out := versionOutput{buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if env.json() {
				return env.printJSON(out)
			}
			env.printf("pancake %s (%s, %s/%s)\n", out.Version, out.Go, out.OS, out.Arch)
			return nil
		},
	}
}
