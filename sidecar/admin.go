package sidecar

import (
	"net"
	"net/http"
	"runtime/pprof"
	"strconv"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
)

// Where the API has what whoever runs a Sidecar needs.
const (
	KeysPath            = "/v1/keys"
	MembersPath         = "/v1/members/" // + name + "/leave", to POST to
	DebugGossipPath     = "/v1/debug/gossip"
	DebugConfigPath     = "/v1/debug/config"
	DebugGoroutinesPath = "/v1/debug/goroutines"
	DebugHeapPath       = "/v1/debug/heap"
)

// Keys is the answer of KeysPath.
type Keys struct {
	// Fingerprints are those of the gossip keys, the one that encrypts first; none
	// where gossip is not encrypted.
	Fingerprints []string
}

// admin adds the paths for whoever runs this Sidecar to those of the API.
func (s *Sidecar) admin(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, serve.Handler(fn))
	}
	handle("GET "+KeysPath, func(w http.ResponseWriter, _ *http.Request) error {
		return serve.JSON(w, http.StatusOK, Keys{append([]string{}, s.gossip.Fingerprints()...)})
	})
	handle("POST "+MembersPath+"{name}/leave", func(w http.ResponseWriter, r *http.Request) error {
		if err := s.known(r.PathValue("name")); err != nil {
			return err
		}
		if err := s.gossip.ForceLeave(r.Context(), r.PathValue("name")); err != nil {
			return err
		}
		return serve.JSON(w, http.StatusOK, struct{ Message string }{"it has left"})
	})
	handle("GET "+DebugGossipPath, func(w http.ResponseWriter, _ *http.Request) error {
		return serve.JSON(w, http.StatusOK, s.gossip.Debug())
	})
	handle("GET "+DebugConfigPath, func(w http.ResponseWriter, _ *http.Request) error {
		return serve.JSON(w, http.StatusOK, s.settings())
	})
	handle("GET "+DebugGoroutinesPath, func(w http.ResponseWriter, _ *http.Request) error {
		return serve.IgnoreGone(pprof.Lookup("goroutine").WriteTo(w, 2))
	})
	handle("GET "+DebugHeapPath, func(w http.ResponseWriter, _ *http.Request) error {
		return serve.IgnoreGone(pprof.Lookup("heap").WriteTo(w, 0))
	})
	mux.Handle("GET /api/traefik", s.routes.read(rest))
	mux.Handle("/", rest)
	return mux
}

// known fails with NotFound for a host that is no member and has no services.
func (s *Sidecar) known(host string) error {
	if s.owner.Snapshot().Hosts[host] != nil {
		return nil
	}
	for _, m := range s.gossip.Members() {
		if m.Name == host {
			return nil
		}
	}
	return pancake.Errorf(pancake.NotFound, "no host %q is known; GET /v1/members lists them", host)
}

// settings are those in use, without what is secret and without what is no setting.
func (s *Sidecar) settings() map[string]any {
	c := s.cfg
	return map[string]any{
		"Hostname": c.Hostname, "AdvertiseIP": c.AdvertiseIP, "ExcludeIPs": c.ExcludeIPs,
		"BindAddr": c.BindAddr, "BindPort": c.BindPort, "ClusterName": c.ClusterName, "Version": c.Version, "Zone": c.Zone, "Seeds": c.Seeds,
		"GossipKeys": s.gossip.Fingerprints(), "PushPullInterval": c.PushPullInterval.String(), "Quiet": c.Quiet, "HTTPAddr": c.HTTPAddr,
		"DockerHost": c.DockerHost, "Passive": c.Passive, "Discovery": c.Discovery, "StaticFile": c.StaticFile, "RegistrationsFile": c.RegistrationsFile, "Agent": c.Agent,
		"ForeignContainers": c.ForeignContainers, "Namer": c.Namer, "NameLabel": c.NameLabel, "NameMatch": c.NameMatch, "DefaultCheckEndpoint": c.DefaultCheckEndpoint,
		"CheckInterval": c.CheckInterval.String(), "CheckTimeout": c.CheckTimeout.String(), "CheckRise": c.CheckRise, "CheckFall": c.CheckFall,
		"ListenerURLs": c.ListenerURLs, "EnvoyAddr": c.EnvoyAddr, "EnvoyBindIP": c.EnvoyBindIP, "EnvoyUseHostnames": c.EnvoyUseHostnames, "DNSAddr": c.DNSAddr, "DNSDomain": c.DNSDomain,
		"Kubernetes": net.JoinHostPort(c.Kubernetes.Host, strconv.Itoa(c.Kubernetes.Port)), "TraefikDomain": c.TraefikDomain, "TraefikRule": c.TraefikRule,
	}
}
