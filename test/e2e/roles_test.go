//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// TestRoles shows what tokens may not do, and that the audit log tells.
func TestRoles(t *testing.T) {
	const request = "dev_owned"
	removeContainers(t, request)
	s := newSecured(t)
	dir := spec(t, "owned", 1)
	text, err := os.ReadFile(filepath.Join(s.home, "scheduler", "operator.token"))
	if err != nil {
		t.Fatal(err)
	}
	operator := s.client(strings.TrimSpace(string(text)), false)
	own(t, filepath.Join(dir, "owned.yml"), "shop")
	s.operator("release", filepath.Join(dir, "owned"), "-e", "dev", "-t", "1")
	healthy(t, func(dir string, args ...string) string { return s.operator(args...) }, request, 1)

	create := func(args ...string) (token, subject string) {
		t.Helper()
		var out client.TokenCreated
		if err := json.Unmarshal([]byte(s.operator(append([]string{"token", "create", "-o", "json"}, args...)...)), &out); err != nil {
			t.Fatal(err)
		}
		return out.Token, "token:" + out.Info.ID
	}
	viewer, viewerSubject := create("--role", "viewer", "--group", "shop")
	other, otherSubject := create("--role", "viewer", "--group", "search")
	task, agent := taskOf(t, operator, request), anAgent(t, operator)

	for _, test := range []struct {
		name, token string
		args        []string
		code        int
	}{
		{"reads", viewer, []string{"status", request}, 0},
		{"reads logs", viewer, []string{"logs", request}, 0},
		{"deploys", viewer, []string{"release", "owned", "-e", "dev", "-t", "2"}, 4},
		{"scales", viewer, []string{"scale", request, "2"}, 4},
		{"deletes", viewer, []string{"delete", request, "--yes"}, 4},
		{"makes tokens", viewer, []string{"token", "create", "--role", "operator"}, 4},
		{"reads the audit log", viewer, []string{"audit"}, 4},
		{"rotates the CA", viewer, []string{"ca", "rotate"}, 4},
		{"drains an agent", viewer, []string{"agents", "drain", agent.Hostname}, 4},
		{"freezes an agent", viewer, []string{"agents", "freeze", agent.Hostname}, 4},
		{"forgets an agent", viewer, []string{"agents", "forget", agent.Hostname}, 4},
		{"of another group reads logs by the CLI", other, []string{"logs", task}, 4},
		{"of another group reads the request", other, []string{"status", request}, 4},
	} {
		if out, errs, code := s.as(test.token, dir, test.args...); code != test.code {
			t.Errorf("a viewer that %s: exit code %d, want %d\n%s%s", test.name, code, test.code, out, errs)
		}
	}
	err = s.client(other, false).Logs(t.Context(), task, 1, false, func(client.LogLine) error { return nil })
	if pancake.KindOf(err) != pancake.Forbidden {
		t.Errorf("a viewer of another group reads logs: %v", err)
	}
	if n := len(containers(t, request)); n != 1 {
		t.Errorf("%d containers run", n)
	}
	if after := anAgent(t, operator); after.State != pancake.AgentActive {
		t.Errorf("the agent is %s", after.State)
	}
	if _, errs, code := s.as(identity.NewToken(identity.APIToken, identity.Fingerprint{}).Reveal(), dir, "agents"); code != 4 {
		t.Errorf("a token that nobody made: exit code %d: %s", code, errs)
	}

	for subject, actions := range map[string][]string{
		viewerSubject: {
			"deploy " + request, "scale " + request, "delete " + request, "tokens /v1/tokens", "audit /v1/audit", "ca /v1/ca/rotate",
			"drain " + agent.ID, "freeze " + agent.ID, "forget " + agent.ID,
		},
		otherSubject: {"logs " + task, "read " + request},
	} {
		out := s.operator("audit", "--subject", subject, "--result", "denied", "-o", "json")
		var entries []client.AuditEntry
		if err := json.Unmarshal([]byte(out), &entries); err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, e := range entries {
			found[e.Action+" "+e.Target] = e.Reason
		}
		for _, action := range actions {
			if found[action] == "" {
				t.Errorf("%s: no entry of a refused %q in %s", subject, action, out)
			}
		}
		t.Logf("refused to %s: %v", subject, found)
	}
	t.Logf("\n%s", s.operator("audit", "--limit", "30"))
}

// own has a spec name the group that its service belongs to.
func own(t *testing.T, path, group string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	owned := strings.Replace(string(text), "  singularity:\n", "  singularity:\n    group: "+group+"\n", 1)
	if owned == string(text) {
		t.Fatalf("%s has no singularity section", path)
	}
	if err := os.WriteFile(path, []byte(owned), 0o600); err != nil {
		t.Fatal(err)
	}
}

// anAgent is the first of the two agents.
func anAgent(t *testing.T, c *client.Client) pancake.Agent {
	t.Helper()
	agents, err := c.Agents(t.Context())
	if err != nil || len(agents) != len(agentIPs) {
		t.Fatalf("agents: %v, %v", agents, err)
	}
	return agents[0].Agent
}

// taskOf is the id of the request's task.
func taskOf(t *testing.T, c *client.Client, request string) string {
	t.Helper()
	tasks, err := c.Tasks(t.Context(), request, false)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("tasks: %v, %v", tasks, err)
	}
	return tasks[0].ID
}
