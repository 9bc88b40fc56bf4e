package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor"
	"github.com/pancake-stack/pancake/executor/docker"
)

func newDevDownCommand(env *environment) *cobra.Command {
	var dataDir, dockerHost string
	var purge, keepTasks bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop what \"pancake dev\" runs, and its tasks",
		Example: examples(
			"pancake dev down               # stop the platform and the tasks; keep what is deployed",
			"pancake dev down --keep-tasks  # stop the platform only",
			"pancake dev down --purge       # and forget everything",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if purge && keepTasks {
				return pancake.Errorf(pancake.Invalid, "--purge forgets the tasks and --keep-tasks keeps them running: use one of them")
			}
			return devDown(cmd.Context(), env, dataDir, docker.Config{Host: dockerHost}, purge, keepTasks)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dataDir, "data-dir", defaultDevDir, "`directory` that \"pancake dev\" was started with")
	flags.StringVar(&dockerHost, "docker", "", "`address` of the Docker engine (default: DOCKER_HOST, else unix:///var/run/docker.sock)")
	flags.BoolVar(&purge, "purge", false, "delete the data too")
	flags.BoolVar(&keepTasks, "keep-tasks", false, "leave the tasks running")
	return cmd
}

// devDown stops the platform, then its tasks, then forgets it all, as far as asked to.
func devDown(ctx context.Context, env *environment, path string, engine docker.Config, purge, keepTasks bool) error {
	if _, err := os.Stat(filepath.Join(path, lockName)); errors.Is(err, os.ErrNotExist) {
		env.say("nothing to stop: \"pancake dev\" has no data in %s", path)
		return nil
	}
	if h := readHolder(path); h.Command != "" && h.Command != devCommand {
		return pancake.Errorf(pancake.Invalid, "%s belongs to \"pancake %s\", not to \"pancake dev\"; name the other's with --data-dir", path, h.Command)
	}
	stopped, err := stopHolder(ctx, path)
	if err != nil {
		return err
	}
	if stopped {
		env.say("stopped Pancake")
	}
	if !keepTasks {
		id, err := executor.AgentID(path)
		if err != nil {
			return err
		}
		n, err := removeTasks(ctx, engine, id)
		if err != nil {
			return err
		}
		env.say("removed %d containers", n)
	}
	if purge {
		return purgeDataDir(env, path)
	}
	return nil
}

// devData are the patterns of what "pancake dev" keeps in its data directory.
// The lock goes last, for it tells that there is something.
var devData = []string{"etcd", "executor", "ingress.json*", "ingress.log*", devLogName + "*", lockName}

// purgeDataDir deletes what is ours, and the directory if there is nothing else
// in it: data of "pancake agent", or somebody's home.
func purgeDataDir(env *environment, path string) error {
	failed := func(err error) error { return pancake.Errorf(pancake.Failed, "delete the data: %w", err) }
	for _, pattern := range devData {
		entries, err := os.ReadDir(path)
		if err != nil {
			return failed(err)
		}
		for _, entry := range entries {
			if ours, _ := filepath.Match(pattern, entry.Name()); !ours { // fails only for a bad pattern
				continue
			}
			if err := os.RemoveAll(filepath.Join(path, entry.Name())); err != nil {
				return failed(err)
			}
		}
	}
	left, err := os.ReadDir(path)
	if err != nil {
		return failed(err)
	}
	if len(left) > 0 {
		env.say("deleted the data in %s; it holds something else too, for example %s, so it stays", path, left[0].Name())
		return nil
	}
	if err := os.Remove(path); err != nil {
		return failed(err)
	}
	env.say("deleted %s", path)
	return nil
}

// downGrace is the time from SIGTERM to SIGKILL for tasks that "dev down" stops.
const downGrace = 5 * time.Second

func removeTasks(ctx context.Context, cfg docker.Config, agentID string) (int, error) {
	engine, err := docker.New(cfg)
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	return executor.RemoveAll(ctx, engine, agentID, downGrace)
}
