package api

import (
	"net/http"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// maxParallel bounds how many tasks of an agent are replaced at a time.
const maxParallel = 1000

func (h *api) listAgents(w http.ResponseWriter, _ *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.agents(h.agents.Connected), nil })
}

func (h *api) agent(w http.ResponseWriter, r *http.Request) error {
	return h.read(w, func(v View) (any, error) { return v.agent(r.PathValue("agent"), h.agents.Connected) })
}

// setAgent makes an agent what an operator wants, for calls without a body.
func (h *api) setAgent(wanted pancake.AgentState) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := h.scheduler.SetAgent(r.Context(), r.PathValue("agent"), wanted, 0); err != nil {
			return err
		}
		return h.agent(w, r)
	}
}

func (h *api) decommission(w http.ResponseWriter, r *http.Request) error {
	var body client.DecommissionBody
	if r.ContentLength != 0 {
		if err := serve.ReadJSON(w, r, maxScale, &body); err != nil {
			return err
		}
	}
	if body.Parallel < 0 || body.Parallel > maxParallel {
		return invalid("parallel is 1 to %d tasks at a time, 0 for the default; not %d", maxParallel, body.Parallel)
	}
	if err := h.scheduler.SetAgent(r.Context(), r.PathValue("agent"), pancake.AgentDecommissioning, body.Parallel); err != nil {
		return err
	}
	return h.agent(w, r)
}

func (h *api) forgetAgent(w http.ResponseWriter, r *http.Request) error {
	if err := h.scheduler.ForgetAgent(r.Context(), r.PathValue("agent")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
