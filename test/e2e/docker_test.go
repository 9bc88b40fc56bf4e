//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// container is what "docker ps" says of one of Pancake's containers.
type container struct {
	ID    string
	Task  string
	Agent string
}

// docker runs the Docker client.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// containers lists the running containers of a request.
func containers(t *testing.T, request string, filters ...string) []container {
	t.Helper()
	args := []string{"ps", "--no-trunc", "--filter", "label=pancake.request=" + request, "--format", "{{json .}}"}
	for _, f := range filters {
		args = append(args, "--filter", f)
	}
	var out []container
	for line := range strings.Lines(docker(t, args...)) {
		var row struct{ ID, Labels string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		c := container{ID: row.ID}
		for label := range strings.SplitSeq(row.Labels, ",") {
			switch name, value, _ := strings.Cut(label, "="); name {
			case "pancake.task":
				c.Task = value
			case "pancake.agent":
				c.Agent = value
			}
		}
		out = append(out, c)
	}
	return out
}

// ids are the container ids, in docker's order.
func ids(cs []container) []string {
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i] = c.ID
	}
	return out
}

// perAgent counts containers by agent.
func perAgent(cs []container) map[string]int {
	out := map[string]int{}
	for _, c := range cs {
		out[c.Agent]++
	}
	return out
}
