package client

import (
	"time"

	"github.com/pancake-stack/pancake"
)

// The paths of the API. Every body is JSON; a failure answers with an ErrorBody.
//
//	GET    /v1/requests                          []RequestView
//	GET    /v1/requests/{request}                RequestView
//	DELETE /v1/requests/{request}                stops its tasks (drained), then forgets it; 202
//	POST   /v1/requests/{request}/scale          ScaleBody → RequestView
//	GET    /v1/requests/{request}/deploys        []pancake.Deploy, newest first
//	GET    /v1/requests/{request}/deploys/{id}   DeployView
//	POST   /v1/deploys                           DeployBody → DeployView; 202
//	GET    /v1/tasks[?request=][&history=true]   []pancake.Task
//	GET    /v1/tasks/{task}                      pancake.Task
//	POST   /v1/tasks/{task}/kill                 202; the request starts another
//	GET    /v1/tasks/{task}/logs[?follow=true][&tail=N]   LogLine, one JSON document a line
//	GET    /v1/agents                            []AgentView
//	GET    /v1/agents/{agent}                    AgentView
//	POST   /v1/agents/{agent}/freeze             no new tasks; AgentView
//	POST   /v1/agents/{agent}/decommission       DecommissionBody, or nothing: its tasks move elsewhere; AgentView
//	POST   /v1/agents/{agent}/activate           takes both back; AgentView
//	DELETE /v1/agents/{agent}                    forgets one that is gone and holds no task; 204
//	GET    /v1/events[?request=]                 server-sent Event; Last-Event-ID resumes
//	GET    /v1/leader                            LeaderView
//	GET    /healthz, /readyz, /metrics

// ErrorBody is the answer to a call that failed.
type ErrorBody struct {
	Kind    pancake.Kind `json:"kind"`
	Message string       `json:"message"`
}

// DeployBody submits one version of a request. Request and deploy are stored
// together or not at all.
type DeployBody struct {
	Request pancake.Request `json:"request"`
	Deploy  pancake.Deploy  `json:"deploy"`
	// DryRun answers what would happen and changes nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// DeployView is a deploy and the tasks that matter to it: its own, and those of
// the deploy that it replaces while they still run.
type DeployView struct {
	Deploy pancake.Deploy `json:"deploy"`
	Tasks  []pancake.Task `json:"tasks"`
	// Unplaced says why instances wait for an agent.
	Unplaced []Unplaced `json:"unplaced,omitempty"`
}

// RequestView is a request with its deploys and tasks.
type RequestView struct {
	Request  pancake.Request `json:"request"`
	Active   *pancake.Deploy `json:"active,omitempty"`
	Pending  *pancake.Deploy `json:"pending,omitempty"`
	Tasks    []pancake.Task  `json:"tasks"`
	Unplaced []Unplaced      `json:"unplaced,omitempty"`
	// LastFailure is why the newest deploy failed, or the newest task that ended by itself.
	LastFailure string `json:"lastFailure,omitempty"`
}

// Unplaced says why an instance has no agent.
type Unplaced struct {
	RequestID string    `json:"requestId"`
	DeployID  string    `json:"deployId"`
	Instance  int       `json:"instanceNo"`
	Since     time.Time `json:"since,omitzero"`
	// Reasons count, per constraint, the agents it ruled out, with the nearest miss.
	Reasons []Reason `json:"reasons"`
	// NotBefore is set while a restart waits for its back-off.
	NotBefore time.Time `json:"notBefore,omitzero"`
}

// Reason is one constraint that ruled agents out.
type Reason struct {
	Constraint string `json:"constraint"` // "cpus", "mem", "ports", "attribute rack", "state", …
	Agents     int    `json:"agents"`
	Message    string `json:"message"` // the nearest miss, in words
}

// ScaleBody asks for a number of instances.
type ScaleBody struct {
	Instances int `json:"instances"`
}

// DecommissionBody says how fast an agent is emptied.
type DecommissionBody struct {
	// Parallel is how many of its tasks are replaced at a time. Default 5.
	Parallel int `json:"parallel,omitempty"`
}

// AgentView is an agent and what its tasks take.
type AgentView struct {
	Agent     pancake.Agent     `json:"agent"`
	Connected bool              `json:"connected"`
	Used      pancake.Resources `json:"used"`
	Tasks     int               `json:"tasks"`
}

// LeaderView says who leads.
type LeaderView struct {
	ID   string `json:"id"`
	HTTP string `json:"http"` // host:port of its API
	GRPC string `json:"grpc"`
	Self bool   `json:"self"` // the scheduler that answers leads
}

// LogLine is one line that a task printed.
type LogLine struct {
	Source string `json:"source"` // "stdout" or "stderr"
	Text   string `json:"text"`
	Error  string `json:"error,omitempty"` // the stream broke; nothing follows
}

// EventType says what an Event is about.
type EventType string

// The event types.
const (
	EventRequest EventType = "request"
	EventDeploy  EventType = "deploy"
	EventTask    EventType = "task"
	EventAgent   EventType = "agent"
)

// Event is one change, as it was committed. Exactly the field of its type is
// set; a deleted thing has Deleted and an otherwise empty body.
type Event struct {
	ID      uint64     `json:"id"` // grows, also from one leader to the next
	Type    EventType  `json:"type"`
	Time    time.Time  `json:"time"`
	Key     string     `json:"key"`                 // the thing's id
	Request string     `json:"requestId,omitempty"` // whose it is
	Deleted bool       `json:"deleted,omitempty"`
	Body    *EventBody `json:"body,omitempty"`
}

// EventBody holds the thing as it is now.
type EventBody struct {
	Request *pancake.Request `json:"request,omitempty"`
	Deploy  *pancake.Deploy  `json:"deploy,omitempty"`
	Task    *pancake.Task    `json:"task,omitempty"`
	Agent   *pancake.Agent   `json:"agent,omitempty"`
}
