package state

import (
	"fmt"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
)

func TestHistoryIsBounded(t *testing.T) {
	s := New()
	s.Apply(Change{Requests: []*pancake.Request{{ID: "r", Instances: 2}}})
	for i := range maxEnded + 30 {
		task := &pancake.Task{ID: fmt.Sprint(i), RequestID: "r", AgentID: "a"}
		s.Apply(Change{Tasks: []*pancake.Task{task}})
		s.Apply(s.End(task))
	}
	if got := s.Ended["r"]; len(got) != maxEnded || got[0].ID != "30" || got[maxEnded-1].ID != "79" {
		t.Errorf("%d kept, %s to %s", len(got), got[0].ID, got[len(got)-1].ID)
	}
	if len(s.Tasks) != 0 || s.CountOn("a") != 0 || len(s.TasksOf("r")) != 0 {
		t.Error("ended tasks are still live")
	}
	if s.Task("79") == nil || s.Task("3") != nil {
		t.Error("Task must find what is kept and nothing else")
	}
}

func TestDeploysAreBoundedButNotTheActiveOne(t *testing.T) {
	s := New()
	r := &pancake.Request{ID: "r", ActiveDeploy: "0"}
	for i := range maxDeploys + 5 {
		s.Apply(s.Submit(r, &pancake.Deploy{ID: fmt.Sprint(i), RequestID: "r", State: pancake.DeployFailed, Created: time.Unix(int64(i), 0)}))
	}
	got := s.DeploysOf("r")
	if len(got) != maxDeploys || got[0].ID != "24" || s.Deploy("r", "0") == nil || s.Deploy("r", "1") != nil {
		t.Errorf("%d kept, newest %s", len(got), got[0].ID)
	}
	s.Apply(Change{ForgetRequest: "r"})
	if len(s.DeploysOf("r")) != 0 {
		t.Error("deploys of a forgotten request are left")
	}
}

func TestClonesAreIndependent(t *testing.T) {
	s := New()
	task := &pancake.Task{ID: "t", RequestID: "r", AgentID: "a"}
	s.Apply(Change{Tasks: []*pancake.Task{task}, Agents: []*pancake.Agent{{ID: "a"}}, Deploys: []*pancake.Deploy{{ID: "d", RequestID: "r"}}})
	c := s.Clone()
	s.Apply(s.End(task))
	s.Apply(Change{ForgetRequest: "r"})
	if c.Tasks["t"] == nil || c.CountOn("a") != 1 || len(c.Ended["r"]) != 0 || c.Deploy("r", "d") == nil || c.Agents["a"] == nil {
		t.Errorf("the clone changed: %+v", c)
	}
}
