package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is stamped by the build.
var version = ""

func newRoot(stdout, stderr *os.File) *cobra.Command {
	root := &cobra.Command{
		Use:   "watcher",
		Short: "Change data capture for Kubernetes",
		Long: `watcher streams the changes of Kubernetes resources as ordered events: raw watches, no informer cache,
and a statement in the output wherever it could not see.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.AddCommand(newRun(stdout, stderr), newCheck(stdout, stderr), newRBAC(stdout, stderr), newVerify(stdout, stderr), newVersion(), newCompletion())
	for _, c := range root.Commands() {
		c.Args = refuseArgs(c.Args)
	}
	root.Args = refuseArgs(root.Args)
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return root
}

// refuseArgs makes a wrong argument a usage error.
func refuseArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &usageError{err.Error()}
		}
		return nil
	}
}

func newVersion() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version [-o json]",

		DisableFlagsInUseLine: true,

		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch output {
			case "":
				_, err := fmt.Fprintln(c.OutOrStdout(), "watcher", versionName())
				return err
			case "json":
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{
					"version": versionName(), "goVersion": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			default:
				return &usageError{fmt.Sprintf("--output %q: must be json", output)}
			}
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

// versionName is the version that the build stamped, or the module's where the go command knows it.
func versionName() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a completion script for a shell",

		DisableFlagsInUseLine: true,

		Example:   "  source <(watcher completion bash)",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			default:
				return root.GenFishCompletion(out, true)
			}
		},
	}
}

// write writes a report at once, in JSON or as text.
func write(stdout io.Writer, report any, asJSON bool, text func(*bytes.Buffer)) error {
	var b bytes.Buffer
	if asJSON {
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(report); err != nil {
			return err
		}
	} else {
		text(&b)
	}
	_, err := stdout.Write(b.Bytes())
	return err
}
