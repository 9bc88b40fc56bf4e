package discover

import (
	"context"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// maxOutputs bounds for how many failing containers one round asks what their checks
// have printed.
const maxOutputs = 64

// condition is what Docker's own health check says.
type condition struct {
	known  bool
	status pancake.ServiceStatus
	note   string
}

// conditionOf turns Docker's word into ours.
func conditionOf(h container.HealthStatus, output string) condition {
	switch h {
	case container.Healthy:
		return condition{known: true, status: pancake.Alive}
	case container.Starting:
		return condition{true, pancake.Sick, "Docker's health check has not passed yet"}
	case container.Unhealthy:
		text := "Docker's health check fails"
		if output != "" {
			text += ": " + output
		}
		return condition{true, pancake.Sick, note(text)}
	}
	return condition{true, pancake.Sick, "the container has no HEALTHCHECK; add one to the image, or choose another type of check in its label " + pancake.LabelHealthCheck}
}

// judge tells the sink how a container is whose check is Docker's own, unless it
// knows. It reports whether the check of that container is.
func (d *Docker) judge(ctx context.Context, id string, c condition) bool {
	t, ok := d.known[id]
	if !ok || t.found.Check.Type != health.Docker {
		return false
	}
	if t.health != c {
		t.health = c
		d.known[id] = t
		d.sink.Status(ctx, id, c.status, c.note)
	}
	return true
}

// healthOf reads the health of a container from a list. Engines before 28 say it
// only in a text for people, such as "Up 5 seconds (healthy)".
func healthOf(c *container.Summary) container.HealthStatus {
	switch {
	case c.Health != nil:
		return c.Health.Status
	case strings.HasSuffix(c.Status, "(healthy)"):
		return container.Healthy
	case strings.HasSuffix(c.Status, "(unhealthy)"):
		return container.Unhealthy
	case strings.HasSuffix(c.Status, "(health: starting)"):
		return container.Starting
	}
	return container.NoHealthcheck
}

// outputs asks what the checks of failing containers have printed. What cannot be
// learned is left out: the failure itself is known.
func (d *Docker) outputs(ctx context.Context, items []container.Summary) map[string]string {
	inspector, ok := d.engine.(Inspector)
	if !ok {
		return nil
	}
	out := map[string]string{}
	for i := range items {
		c := &items[i]
		if c.Labels[pancake.LabelHealthCheck] != health.Docker || !d.ours(c.Labels) || healthOf(c) != container.Unhealthy {
			continue
		}
		if len(out) >= maxOutputs {
			break
		}
		answer, err := inspector.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		if state := answer.Container.State; err == nil && state != nil && state.Health != nil && len(state.Health.Log) > 0 {
			out[c.ID] = state.Health.Log[len(state.Health.Log)-1].Output
		}
	}
	return out
}
