// Package api serves the HTTP API of a scheduler that leads, as described in
// scheduler/client.
package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
	"github.com/pancake-stack/pancake/scheduler/events"
	"github.com/pancake-stack/pancake/scheduler/state"
)

// Largest bodies, in bytes. A deploy must fit into one transaction of etcd.
const (
	maxDeploy = 512 << 10
	maxScale  = 1 << 10
)

// Scheduler changes the state and shows it.
type Scheduler interface {
	Submit(ctx context.Context, body client.DeployBody) (client.DeployView, error)
	Scale(ctx context.Context, request string, instances int) error
	Delete(ctx context.Context, request string) error
	KillTask(ctx context.Context, task string) error
	SetAgent(ctx context.Context, agent string, wanted pancake.AgentState, parallel int) error
	ForgetAgent(ctx context.Context, agent string) error
	// Read calls fn with what is stored now. It must not be kept or changed.
	Read(fn func(View))
}

// Agents reaches the agents.
type Agents interface {
	Connected(agent string) bool
	// Logs calls fn with what a task printed.
	Logs(ctx context.Context, agent, task string, tail int, follow bool, fn func(source string, data []byte) error) error
}

// Guard decides who may do what. A refusal is an identity.Denied.
type Guard interface {
	// Authorize decides for the call of ctx, and notes what it is about.
	Authorize(ctx context.Context, a identity.Action, target string, on ...identity.Ownership) error
	// May decides as Authorize does, and notes nothing.
	May(ctx context.Context, a identity.Action, on ...identity.Ownership) bool
	// Caller names who makes the call of ctx.
	Caller(ctx context.Context) string
}

// everybody is the Guard of a scheduler that is not secure: all may do all.
type everybody struct{}

func (everybody) Authorize(context.Context, identity.Action, string, ...identity.Ownership) error {
	return nil
}
func (everybody) May(context.Context, identity.Action, ...identity.Ownership) bool { return true }
func (everybody) Caller(context.Context) string                                    { return "" }

// View is the state, and why instances wait, by request.
type View struct {
	State    *state.State
	Unplaced map[string][]client.Unplaced
}

type api struct {
	scheduler Scheduler
	agents    Agents
	events    *events.Hub
	guard     Guard
}

// New serves the API below /v1/. Without a guard, nil, all may do all.
func New(s Scheduler, a Agents, hub *events.Hub, g Guard) http.Handler {
	if g == nil {
		g = everybody{}
	}
	h := &api{s, a, hub, g}
	mux := http.NewServeMux()
	for pattern, route := range map[string]struct {
		action identity.Action
		fn     func(http.ResponseWriter, *http.Request) error
	}{
		"GET /v1/requests":                        {identity.ActionRead, h.requests},
		"GET /v1/requests/{request}":              {identity.ActionRead, h.request},
		"DELETE /v1/requests/{request}":           {identity.ActionDelete, h.delete},
		"POST /v1/requests/{request}/scale":       {identity.ActionScale, h.scale},
		"GET /v1/requests/{request}/deploys":      {identity.ActionRead, h.deploys},
		"GET /v1/requests/{request}/deploys/{id}": {identity.ActionRead, h.deploy},
		"GET /v1/tasks":                           {identity.ActionRead, h.tasks},
		"GET /v1/tasks/{task}":                    {identity.ActionRead, h.task},
		"POST /v1/tasks/{task}/kill":              {identity.ActionKill, h.kill},
		"GET /v1/tasks/{task}/logs":               {identity.ActionLogs, h.logs},
		"GET /v1/agents":                          {identity.ActionRead, h.listAgents},
		"GET /v1/agents/{agent}":                  {identity.ActionRead, h.agent},
		"POST /v1/agents/{agent}/freeze":          {identity.ActionFreeze, h.setAgent(pancake.AgentFrozen)},
		"POST /v1/agents/{agent}/decommission":    {identity.ActionDrain, h.decommission},
		"POST /v1/agents/{agent}/activate":        {identity.ActionActivate, h.setAgent(pancake.AgentActive)},
		"DELETE /v1/agents/{agent}":               {identity.ActionForget, h.forgetAgent},
		"GET /v1/events":                          {identity.ActionRead, h.watch},
		"/": {identity.ActionRead, func(_ http.ResponseWriter, r *http.Request) error {
			return pancake.Errorf(pancake.NotFound, "there is no %s %s", r.Method, r.URL.Path)
		}},
	} {
		mux.Handle(pattern, serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
			if err := h.authorize(r, route.action); err != nil {
				return err
			}
			return route.fn(w, r)
		}))
	}
	mux.Handle("POST /v1/deploys", serve.Handler(h.submit)) // whose body says what it is about
	return mux
}

// read answers with what fn takes from the state.
func (h *api) read(w http.ResponseWriter, fn func(View) (any, error)) error {
	var out any
	var err error
	h.scheduler.Read(func(v View) { out, err = fn(v) })
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusOK, out)
}

func (h *api) requests(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) {
		return slices.DeleteFunc(v.requests(), func(q client.RequestView) bool { return !h.shows(r, v, q.Request.ID) }), nil
	})
}

func (h *api) request(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.request(r.PathValue("request")) })
}

func (h *api) deploys(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.deploys(r.PathValue("request")) })
}

func (h *api) deploy(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.Deploy(r.PathValue("request"), r.PathValue("id")) })
}

func (h *api) tasks(w http.ResponseWriter, r *http.Request) error {
	history, err := flag(r, "history")
	if err != nil {
		return err
	}
	return h.read(w, func(v View) (any, error) {
		return slices.DeleteFunc(v.tasks(r.FormValue("request"), history), func(t pancake.Task) bool { return !h.shows(r, v, t.RequestID) }), nil
	})
}

func (h *api) task(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.task(r.PathValue("task")) })
}

func (h *api) submit(w http.ResponseWriter, r *http.Request) error {
	var body client.DeployBody
	unreadable := serve.ReadJSON(w, r, maxDeploy, &body)
	// It is read first so that the audit log has which request it was about.
	err := h.guard.Authorize(r.Context(), identity.ActionDeploy, cmp.Or(body.Request.ID, r.URL.Path), h.touched(body.Request)...)
	if err != nil {
		return err
	}
	if unreadable != nil {
		return unreadable
	}
	body.Deploy.User = cmp.Or(h.guard.Caller(r.Context()), body.Deploy.User, r.Header.Get("X-Username"))
	if err := validate(&body); err != nil {
		return err
	}
	view, err := h.scheduler.Submit(r.Context(), body)
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusAccepted, view)
}

func (h *api) scale(w http.ResponseWriter, r *http.Request) error {
	var body client.ScaleBody
	if err := serve.ReadJSON(w, r, maxScale, &body); err != nil {
		return err
	}
	if err := validInstances(body.Instances); err != nil {
		return err
	}
	if err := h.scheduler.Scale(r.Context(), r.PathValue("request"), body.Instances); err != nil {
		return err
	}
	return h.request(w, r)
}

func (h *api) delete(w http.ResponseWriter, r *http.Request) error {
	if err := h.scheduler.Delete(r.Context(), r.PathValue("request")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (h *api) kill(w http.ResponseWriter, r *http.Request) error {
	if err := h.scheduler.KillTask(r.Context(), r.PathValue("task")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func flag(r *http.Request, name string) (bool, error) {
	text := r.FormValue(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, pancake.Errorf(pancake.Invalid, "%s=%q is neither true nor false", name, text)
	}
	return b, nil
}
