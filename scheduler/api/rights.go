package api

import (
	"cmp"
	"net/http"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// authorize decides on a call by the request, task or agent that its path names.
// What does not exist belongs to nobody: the call itself says so.
func (h *api) authorize(r *http.Request, a identity.Action) error {
	id, task := r.PathValue("request"), r.PathValue("task")
	var on []identity.Ownership
	h.scheduler.Read(func(v View) {
		request := id
		if t := v.State.Task(task); t != nil {
			request = t.RequestID
			on = append(on, v.owners(request))
		} else if v.State.Requests[request] != nil {
			on = append(on, v.owners(request))
		}
	})
	return h.guard.Authorize(r.Context(), a, cmp.Or(id, task, r.PathValue("agent"), r.URL.Path), on...)
}

// touched is whose a request that is to be deployed was, and whose it shall be.
func (h *api) touched(next pancake.Request) []identity.Ownership {
	on := []identity.Ownership{ownership(&next)}
	h.scheduler.Read(func(v View) {
		if old := v.State.Requests[next.ID]; old != nil {
			on = append(on, ownership(old))
		}
	})
	return on
}

// shows reports whether whoever calls may know of what belongs to a request.
func (h *api) shows(r *http.Request, v View, request string) bool {
	return h.guard.May(r.Context(), identity.ActionRead, v.owners(request))
}

// owners is whose a request is. What is left of one that is gone is for those who
// may see all.
func (v View) owners(request string) identity.Ownership {
	if r := v.State.Requests[request]; r != nil {
		return ownership(r)
	}
	return identity.Ownership{Group: identity.AllGroups}
}

func ownership(r *pancake.Request) identity.Ownership {
	return identity.Ownership{Group: r.Group, ReadWrite: r.ReadWriteGroups, ReadOnly: r.ReadOnlyGroups}
}
