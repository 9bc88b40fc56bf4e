package api

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/sidecar/client"
)

//go:embed servers.html
var serversHTML string

// pages adds what people look at.
func (a *api) pages(mux *http.ServeMux) {
	// A template that does not parse is found by any test.
	page := template.Must(template.New("servers").Funcs(template.FuncMap{
		"ago": func(t time.Time) string { return time.Since(t).Truncate(time.Second).String() },
	}).Parse(serversHTML))
	servers := serve.Handler(func(w http.ResponseWriter, _ *http.Request) error {
		var out bytes.Buffer
		if err := page.Execute(&out, a.page()); err != nil {
			return fmt.Errorf("make the page of servers: %w", err)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		return serve.Send(w, out.Bytes())
	})
	ui := a.UI
	if ui == nil {
		ui = servers
	}
	mux.Handle("GET /servers", servers)
	mux.Handle("GET /ui/", ui)
	mux.Handle("GET /{$}", http.RedirectHandler("/ui/", http.StatusMovedPermanently))
}

// serversPage is what the page of servers shows.
type serversPage struct {
	Cluster, Self string
	Hosts         []pageHost
}

type pageHost struct {
	Name, State string
	LastUpdated time.Time
	Services    []*pancake.Service
}

func (a *api) page() serversPage {
	snap, _ := a.State.Get()
	states := map[string]client.MemberState{}
	for _, m := range a.Members() {
		states[m.Name] = m.State
	}
	out := serversPage{Cluster: snap.Cluster, Self: snap.Self}
	for name, h := range snap.Hosts {
		host := pageHost{Name: name, State: string(cmp.Or(states[name], "not a member")), LastUpdated: h.LastUpdated}
		for _, s := range h.Services {
			if s.Status != pancake.Tombstone {
				host.Services = append(host.Services, s)
			}
		}
		slices.SortFunc(host.Services, orders["name"])
		delete(states, name)
		out.Hosts = append(out.Hosts, host)
	}
	for name, state := range states { // those that announce nothing
		out.Hosts = append(out.Hosts, pageHost{Name: name, State: string(state)})
	}
	slices.SortFunc(out.Hosts, func(a, b pageHost) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
