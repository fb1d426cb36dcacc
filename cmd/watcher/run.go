package main

import (
	"os"

	"github.com/spf13/cobra"
)

func newRun(stdout, stderr *os.File) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [RESOURCE ...]",
		Short: "Stream changes until stopped",
		Long: `Stream the changes of resources, as events on stdout, until stopped. RESOURCE is kubectl's syntax: pods, po, deployments.apps,
widgets.v1.example.com; several are separated by spaces or commas. Without any: pods,deployments.apps,services.`,
		Example: `  watcher run                                   pods, deployments and services of all namespaces
  watcher run pods -n shop -l app=web           the pods of one application
  watcher run --state-dir s >> audit.jsonl      goes on after a restart where it was
  watcher run secrets --payload none            who changed, without what
  watcher run --once -o json > now.jsonl        what exists now`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := f.parse(c.Flags(), args, stdout)
			if err != nil {
				return err
			}
			if err := f.connect(conf); err != nil {
				return err
			}
			return conf.run(c.Context(), stdout, stderr)
		},
	}
	f.bind(c)
	return c
}
