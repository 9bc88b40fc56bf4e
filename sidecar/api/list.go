package api

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// named lists the records of one service, ordered by host and id.
func named(snap *catalog.Snapshot, name string) []*pancake.Service {
	var out []*pancake.Service
	for _, h := range snap.Hosts {
		for _, s := range h.Services {
			if s.Name == name {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, orders["name"])
	return out
}

// list answers with the services that the query asks for.
func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		return err
	}
	snap, _ := a.State.Get()
	services := q.services(snap)
	doc, err := a.Docs.List(snap, services)
	if err != nil {
		return err
	}
	return answer(w, r, doc)
}

// query says which services are asked for: those of which all is true.
type query struct {
	name, host, task []string                // any of them; empty for all
	status           []pancake.ServiceStatus // any of them
	labels           []label                 // all of them
	order            func(a, b *pancake.Service) int
}

// label is a label that a service has to have, with that value if there is one.
type label struct {
	key, value string
	any        bool
}

func parseQuery(values url.Values) (query, error) {
	q := query{
		status: []pancake.ServiceStatus{pancake.Alive, pancake.Sick, pancake.Unknown, pancake.Draining}, // what is gone only for those who ask
		order:  orders["name"],
	}
	for key, list := range values {
		var err error
		switch key {
		case "name":
			q.name = list
		case "host":
			q.host = list
		case "task":
			q.task = list
		case "label":
			for _, l := range list {
				k, v, found := strings.Cut(l, "=")
				q.labels = append(q.labels, label{k, v, !found})
			}
		case "status":
			q.status, err = parseStatuses(list)
		case "sort":
			q.order, err = parseOrder(list[0])
		default:
			err = pancake.Errorf(pancake.Invalid, "%q is no filter: name, status, host, task and label are, and sort", key)
		}
		if err != nil {
			return q, err
		}
	}
	return q, nil
}

// statuses are the names that a query may use, besides Sidecar's numbers.
var statuses = map[string]pancake.ServiceStatus{
	"alive": pancake.Alive, "tombstone": pancake.Tombstone, "unhealthy": pancake.Sick, "sick": pancake.Sick,
	"unknown": pancake.Unknown, "draining": pancake.Draining,
}

func parseStatuses(list []string) ([]pancake.ServiceStatus, error) {
	var out []pancake.ServiceStatus
	for _, values := range list {
		for name := range strings.SplitSeq(values, ",") {
			s, err := parseStatus(name)
			switch {
			case strings.EqualFold(name, "all"):
				out = append(out, pancake.Alive, pancake.Tombstone, pancake.Sick, pancake.Unknown, pancake.Draining)
			case err != nil:
				return nil, err
			default:
				out = append(out, s)
			}
		}
	}
	return out, nil
}

func parseStatus(name string) (pancake.ServiceStatus, error) {
	if s, ok := statuses[strings.ToLower(name)]; ok {
		return s, nil
	}
	if n, err := strconv.Atoi(name); err == nil && n >= int(pancake.Alive) && n <= int(pancake.Draining) {
		return pancake.ServiceStatus(n), nil
	}
	return 0, pancake.Errorf(pancake.Invalid, "%q is no status: alive, unhealthy, unknown, draining and tombstone are", name)
}

// orders are those that a query may ask for.
var orders = map[string]func(a, b *pancake.Service) int{
	"name": func(a, b *pancake.Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.ID, b.ID))
	},
	"host": func(a, b *pancake.Service) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	},
	"status":  func(a, b *pancake.Service) int { return cmp.Compare(a.Status, b.Status) },
	"created": func(a, b *pancake.Service) int { return a.Created.Compare(b.Created) },
	"updated": func(a, b *pancake.Service) int { return a.Updated.Compare(b.Updated) },
}

func parseOrder(text string) (func(a, b *pancake.Service) int, error) {
	name, descending := strings.CutPrefix(text, "-")
	order, ok := orders[name]
	if !ok {
		return nil, pancake.Errorf(pancake.Invalid, "sort=%s is no order: name, host, status, created and updated are, and -name and so on for the reverse", text)
	}
	return func(a, b *pancake.Service) int {
		c := order(a, b)
		if descending {
			c = -c
		}
		return cmp.Or(c, orders["name"](a, b))
	}, nil
}

// services lists what is asked for.
func (q query) services(snap *catalog.Snapshot) []*pancake.Service {
	oneOf := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	out := []*pancake.Service{}
	for name, h := range snap.Hosts {
		if !oneOf(q.host, name) {
			continue
		}
		for _, s := range h.Services {
			if oneOf(q.name, s.Name) && oneOf(q.task, s.Task) && slices.Contains(q.status, s.Status) && q.labelled(s) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, q.order)
	return out
}

func (q query) labelled(s *pancake.Service) bool {
	for _, l := range q.labels {
		if v, ok := s.Labels[l.key]; !ok || !l.any && v != l.value {
			return false
		}
	}
	return true
}
