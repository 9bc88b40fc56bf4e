package executor

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
)

// removeParallel is how many containers are stopped at a time: more only make
// the engine slower.
const removeParallel = 8

// RemoveAll stops and removes every container of an agent, with SIGTERM and
// grace, and returns how many there were. One that resists does not keep the
// others. The agent's executor must not run.
func RemoveAll(ctx context.Context, engine *docker.Engine, agentID string, grace time.Duration) (int, error) {
	containers, err := engine.List(ctx, pancake.LabelAgent, agentID)
	if err != nil {
		return 0, err
	}
	var g errgroup.Group
	g.SetLimit(removeParallel)
	for _, c := range containers {
		g.Go(func() error {
			if c.State == docker.Running {
				if err := engine.Stop(ctx, c.ID, grace); err != nil && pancake.KindOf(err) != pancake.NotFound {
					return err
				}
			}
			return engine.Remove(ctx, c.ID)
		})
	}
	return len(containers), g.Wait()
}
