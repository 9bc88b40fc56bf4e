package scheduler_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/testkit"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// What a release says of its request counts for its own tasks at once, and for
// the request when it has succeeded.
func TestAFailedReleaseChangesNothingOfItsRequest(t *testing.T) {
	s := start(t, testkit.Etcd(t), "one")
	a := newAgent(t, "node-a", 4)
	a.info.Attributes = map[string]string{"rack": "r1"}
	a.start(s.grpc)
	s.ready(t, 1)
	s.release(t, body("1", 1))

	seen := map[string]string{} // by deploy, the service that its tasks were launched for
	script := func(next func(agentlink.Assignment) []pancake.TaskStatus) func(agentlink.Assignment) []pancake.TaskStatus {
		return func(job agentlink.Assignment) []pancake.TaskStatus {
			seen[job.Deploy.ID] = job.Request.Service
			return next(job)
		}
	}
	changed := func(b *client.DeployBody) {
		b.Request.Service, b.Request.Environment = "hello", "dev"
		b.Request.RequiredAttributes = map[string]string{"rack": "r1"}
	}
	request := func() pancake.Request {
		t.Helper()
		v, err := s.Request(t.Context(), "dev_hello")
		if err != nil {
			t.Fatal(err)
		}
		return v.Request
	}
	before := request()

	// Without a deploy there is nothing to scale, and nobody would ever see it happen.
	a.set(func() { a.script = crashing })
	first := body("1", 1, func(b *client.DeployBody) { b.Request.ID = "dev_broken" })
	if _, err := s.Submit(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first deploy has failed", func() bool {
		v, err := s.Request(t.Context(), "dev_broken")
		return err == nil && v.Request.PendingDeploy == ""
	})
	if _, err := s.Scale(t.Context(), "dev_broken", 2); pancake.KindOf(err) != pancake.Conflict || !strings.Contains(err.Error(), "has no deploy") {
		t.Errorf("scale without a deploy: %v", err)
	}

	a.set(func() { a.script = script(crashing) })
	if v := s.release(t, body("2", 3, changed)); v.Deploy.State != pancake.DeployFailed || v.Deploy.Settings != nil {
		t.Fatalf("deploy 2: %s %s, settings %+v", v.Deploy.State, v.Deploy.Message, v.Deploy.Settings)
	}
	if r := request(); len(r.RequiredAttributes) != 0 || r.Service != before.Service || r.Instances != 1 || r.ActiveDeploy != "1" {
		t.Errorf("after the failure the request is %+v", r)
	}

	a.set(func() { a.script = script(healthy) })
	if v := s.release(t, body("3", 3, changed)); v.Deploy.State != pancake.DeploySucceeded {
		t.Fatalf("deploy 3: %s %s", v.Deploy.State, v.Deploy.Message)
	}
	if r := request(); r.RequiredAttributes["rack"] != "r1" || r.Service != "hello" || r.Instances != 3 || r.ActiveDeploy != "3" || !r.Created.Equal(before.Created) {
		t.Errorf("after the success the request is %+v", r)
	}
	a.set(func() {
		if want := map[string]string{"2": "hello", "3": "hello"}; !maps.Equal(seen, want) {
			t.Errorf("launched for %v, want %v", seen, want)
		}
	})
}
