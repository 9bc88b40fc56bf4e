package api

import (
	"cmp"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

// envoy adds Envoy's first discovery API, over REST, as NinesStack Sidecar has it.
// What came after it is in sidecar/envoy.
func (a *api) envoy(handle func(string, func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /v1/registration/{service}", a.registration)
	for _, path := range []string{"", "/{cluster}/{node}"} { // Envoy says who it is; all get the same
		handle("GET /v1/clusters"+path, a.clusters)
		handle("GET /v1/listeners"+path, a.listeners)
	}
}

// envoyHost is an endpoint in Envoy's service discovery.
type envoyHost struct {
	IPAddress       string            `json:"ip_address"`
	LastCheckIn     string            `json:"last_check_in"`
	Port            int64             `json:"port"`
	Revision        string            `json:"revision"`
	Service         string            `json:"service"`
	ServiceRepoName string            `json:"service_repo_name"`
	Tags            map[string]string `json:"tags"`
}

func (a *api) exported() []export.Cluster {
	snap, _ := a.State.Get()
	clusters, _ := export.Clusters(snap.Services()) // who is interested in the problems reads the log of sidecar/envoy
	return clusters
}

func (a *api) registration(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("service")
	service, port, err := export.Split(name)
	if err != nil {
		return pancake.Errorf(pancake.NotFound, "Not Found - %w", err)
	}
	hosts := []envoyHost{}
	for _, c := range a.exported() {
		if c.Service != service || c.Port != port {
			continue
		}
		for _, e := range c.Endpoints {
			hosts = append(hosts, envoyHost{
				IPAddress: e.IP, LastCheckIn: e.Updated.String(), Port: e.Port, Revision: revision(e.Image),
				Service: name, ServiceRepoName: e.Image, Tags: map[string]string{},
			})
		}
	}
	snap, _ := a.State.Get()
	return answerJSON(w, r, struct {
		Env     string      `json:"env"`
		Hosts   []envoyHost `json:"hosts"`
		Service string      `json:"service"`
	}{snap.Cluster, hosts, name})
}

// revision is the tag of an image. What follows a colon in the host of the
// registry is no tag.
func revision(image string) string {
	_, last, found := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":")
	if !found {
		return image
	}
	return last
}

// envoyCluster is a cluster in Envoy's cluster discovery.
type envoyCluster struct {
	Name             string `json:"name"`
	Type             string `json:"type"`
	ConnectTimeoutMs int64  `json:"connect_timeout_ms"`
	LBType           string `json:"lb_type"`
	ServiceName      string `json:"service_name"`
}

func (a *api) clusters(w http.ResponseWriter, r *http.Request) error {
	clusters := []envoyCluster{}
	for _, c := range a.exported() {
		clusters = append(clusters, envoyCluster{Name: c.Name, Type: "sds", ConnectTimeoutMs: 500, LBType: "round_robin", ServiceName: c.Name})
	}
	return answerJSON(w, r, map[string]any{"clusters": clusters})
}

// The parts of a listener in Envoy's listener discovery.
type (
	envoyListener struct {
		Name    string        `json:"name"`
		Address string        `json:"address"`
		Filters []envoyFilter `json:"filters"`
	}
	envoyFilter struct {
		Name   string            `json:"name"`
		Config envoyFilterConfig `json:"config"`
	}
	envoyFilterConfig struct {
		CodecType   string        `json:"codec_type,omitempty"`
		StatPrefix  string        `json:"stat_prefix,omitempty"`
		RouteConfig *envoyRoutes  `json:"route_config,omitempty"`
		Filters     []envoyFilter `json:"filters,omitempty"`
	}
	envoyRoutes struct {
		VirtualHosts []envoyVirtualHost `json:"virtual_hosts,omitempty"`
		Routes       []envoyTCPRoute    `json:"routes,omitempty"`
	}
	envoyVirtualHost struct {
		Name    string       `json:"name"`
		Domains []string     `json:"domains"`
		Routes  []envoyRoute `json:"routes"`
	}
	envoyRoute struct {
		TimeoutMs   int    `json:"timeout_ms"` // 0 is none
		Prefix      string `json:"prefix"`
		HostRewrite string `json:"host_rewrite"`
		Cluster     string `json:"cluster"`
	}
	envoyTCPRoute struct {
		Cluster string `json:"cluster"`
	}
)

func (a *api) listeners(w http.ResponseWriter, r *http.Request) error {
	listeners := []envoyListener{}
	for _, c := range a.exported() {
		l := envoyListener{Name: c.Name, Address: "tcp://" + net.JoinHostPort(a.ProxyIP, strconv.FormatInt(c.Port, 10))}
		if cmp.Or(c.Mode, "http") == "http" {
			l.Filters = []envoyFilter{{Name: "envoy.http_connection_manager", Config: envoyFilterConfig{
				CodecType: "auto", StatPrefix: "ingress_http",
				Filters: []envoyFilter{{Name: "router"}},
				RouteConfig: &envoyRoutes{VirtualHosts: []envoyVirtualHost{{
					Name: c.Service, Domains: []string{"*"}, Routes: []envoyRoute{{Prefix: "/", Cluster: c.Name}},
				}}},
			}}}
		} else { // this API knows no WebSockets
			l.Filters = []envoyFilter{{Name: "envoy.tcp_proxy", Config: envoyFilterConfig{
				StatPrefix: "ingress_tcp", RouteConfig: &envoyRoutes{Routes: []envoyTCPRoute{{c.Name}}},
			}}}
		}
		listeners = append(listeners, l)
	}
	return answerJSON(w, r, map[string]any{"listeners": listeners})
}
