package agentlink_test

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
)

func TestLaunchKeepsWhatTheNodeNeeds(t *testing.T) {
	request := pancake.Request{ID: "dev_hello", Service: "hello", Environment: "dev", Instances: 2}
	deploy := pancake.Deploy{
		ID: "1_4f2ab31", RequestID: "dev_hello", Tag: "1", User: "ann",
		Container: pancake.Container{
			Image: "hello:1", ForcePull: true, Command: "run", Network: pancake.NetworkBridge,
			Ports: []pancake.PortMapping{{ContainerPort: 8080, HostPort: 31000, Protocol: "tcp"}},
			Env:   map[string]string{"A": "b"}, Labels: map[string]string{"L": "m"},
			Volumes: []pancake.Volume{{HostPath: "/a", ContainerPath: "/b", Mode: "RO"}},
		},
		Resources: pancake.Resources{CPUs: 100, MemoryMB: 64, Ports: pancake.PortSet{{First: 31000, Last: 31000}}},
		Health:    pancake.Health{URI: "/healthz"},
	}
	task := pancake.Task{
		ID: "t1", RequestID: "dev_hello", DeployID: "1_4f2ab31", Instance: 2, Desired: pancake.DesiredRun,
		Resources: deploy.Resources, Ports: deploy.Container.Ports,
	}
	got, err := agentlink.NewLaunch(task, request, deploy).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if want := (agentlink.Assignment{Task: task, Request: request, Deploy: deploy}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestStatusAndRegisterRoundTrip(t *testing.T) {
	status := pancake.TaskStatus{
		State: pancake.TaskFailed, Sequence: 7, Reason: pancake.ReasonExited, Message: "exit code 3", Health: pancake.Unhealthy,
		HealthNote: "refused", ContainerID: "abc", ExitCode: 3, Log: []string{"boom"},
		Started: time.UnixMilli(1000).UTC(), Updated: time.UnixMilli(2000).UTC(),
	}
	agent := pancake.Agent{
		ID: "a1", Hostname: "node-1", Address: "127.0.0.2", Attributes: map[string]string{"rack": "r1"},
		Resources: pancake.Resources{CPUs: 2000, MemoryMB: 1024, Ports: pancake.PortSet{{First: 31000, Last: 32000}}}, Version: "1",
	}
	gotAgent, tasks, err := agentlink.NewRegister(agent, map[string]pancake.TaskStatus{"t1": status}).Decode()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotAgent, agent) || !reflect.DeepEqual(tasks["t1"], status) {
		t.Errorf("got %+v\n%+v", gotAgent, tasks)
	}
}

func TestDecodeRefusesWhatIsOutOfBounds(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for name, err := range map[string]error{
		"empty task id":    second(agentlink.NewLaunch(pancake.Task{}, pancake.Request{}, pancake.Deploy{}).Decode()),
		"terminal in host": third((&agentlink.Register{AgentId: "a", Hostname: "\x1b[2J", Address: "x"}).Decode()),
		"long id":          third((&agentlink.StatusUpdate{TaskId: long, State: "TASK_RUNNING"}).Decode()),
		"unknown state":    third((&agentlink.StatusUpdate{TaskId: "t", State: "TASK_SLEEPING"}).Decode()),
		"unknown health":   third((&agentlink.StatusUpdate{TaskId: "t", State: "TASK_RUNNING", Health: "FINE"}).Decode()),
		"no address":       third((&agentlink.Register{AgentId: "a", Hostname: "h"}).Decode()),
		"negative cpus":    third((&agentlink.Register{AgentId: "a", Hostname: "h", Address: "x", Resources: &agentlink.Resources{MilliCpus: -1}}).Decode()),
		"large attributes": third((&agentlink.Register{AgentId: "a", Hostname: "h", Address: "x", Attributes: map[string]string{"a": strings.Repeat("x", 17<<10)}}).Decode()),
		"bad ports":        third((&agentlink.Register{AgentId: "a", Hostname: "h", Address: "x", Resources: &agentlink.Resources{Ports: "9-1"}}).Decode()),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A text that is no UTF-8 would end the link, again at each attempt to send it.
func TestAStatusIsAlwaysSendable(t *testing.T) {
	status := pancake.TaskStatus{
		State: pancake.TaskFailed, Reason: "x\xff", Message: "caf\xe9", HealthNote: "\xc3", Log: []string{"ok", "b\xfcm"},
	}
	if _, err := proto.Marshal(agentlink.NewStatus("t", status)); err != nil {
		t.Error(err)
	}
	// What is too long is not cut within a character.
	_, got, err := (&agentlink.StatusUpdate{TaskId: "t", State: "TASK_FAILED", Message: "x" + strings.Repeat("é", 16<<10)}).Decode()
	if err != nil || !utf8.ValidString(got.Message) || len(got.Message) < 16<<10-1 {
		t.Errorf("%d bytes, %v", len(got.Message), err)
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

func FuzzDecodeAgentMessage(f *testing.F) {
	seed, err := proto.Marshal(&agentlink.AgentMessage{Message: &agentlink.AgentMessage_Register{
		Register: agentlink.NewRegister(pancake.Agent{ID: "a", Hostname: "h", Address: "x"},
			map[string]pancake.TaskStatus{"t": {State: pancake.TaskRunning}}),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m agentlink.AgentMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if a, _, err := m.GetRegister().Decode(); err == nil && (a.ID == "" || a.Resources.CPUs < 0) {
			t.Fatalf("accepted %+v", a)
		}
		if _, s, err := m.GetStatus().Decode(); err == nil && len(s.Log) > 20 {
			t.Fatalf("accepted %d log lines", len(s.Log))
		}
	})
}

func FuzzDecodeSchedulerMessage(f *testing.F) {
	seed, err := proto.Marshal(agentlink.NewLaunch(pancake.Task{ID: "t", RequestID: "r", DeployID: "d"}, pancake.Request{}, pancake.Deploy{}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var l agentlink.Launch
		if proto.Unmarshal(b, &l) != nil {
			return
		}
		a, err := l.Decode()
		if err != nil {
			return
		}
		for _, p := range a.Task.Ports {
			if p.HostPort < 0 || p.HostPort > 65535 {
				t.Fatalf("accepted port %d", p.HostPort)
			}
		}
	})
}
