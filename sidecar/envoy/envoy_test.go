package envoy_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/envoy"
	"github.com/pancake-stack/pancake/sidecar/feed"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rig is a control plane and the catalogue that it serves.
type rig struct {
	t       *testing.T
	catalog *catalog.Catalog
	state   *feed.Feed[*catalog.Snapshot]
	metrics *prometheus.Registry
	log     *logs
	conn    *grpc.ClientConn
	now     time.Time
}

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newRig(t *testing.T, change func(*envoy.Config)) *rig {
	t.Helper()
	c := catalog.New("n1", "default")
	r := &rig{t: t, catalog: c, state: feed.New(c.Snapshot()), metrics: prometheus.NewRegistry(), log: &logs{}, now: noon}
	ln, err := net.Listen("tcp", "127.22.4.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := envoy.Config{State: r.state, Listener: ln, BindIP: "10.9.9.9", Log: slog.New(slog.NewTextHandler(r.log, nil)), Metrics: r.metrics}
	if change != nil {
		change(&cfg)
	}
	s, err := envoy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if r.conn, err = grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.conn.Close()
		cancel()
		if err := <-done; err == nil {
			t.Error("Run returned nil")
		}
	})
	return r
}

// put gives an instance on host a status. Its ServicePort is the port plus 10,000.
func (r *rig) put(name, host, mode string, port int64, status pancake.ServiceStatus) {
	r.now = r.now.Add(time.Second)
	r.catalog.Merge([]pancake.Service{{
		ID: name + "-" + host, Name: name, Hostname: host, Image: "img:1", ProxyMode: mode, Status: status, Updated: r.now, Created: noon.Add(-time.Hour),
		Ports: []pancake.ServicePort{{Type: "tcp", Port: port + 20000, ServicePort: port + 10000, IP: "10.0.0." + host[1:]}},
	}}, r.now)
	r.state.Set(r.catalog.Snapshot())
}

// proxy is an Envoy: an aggregated stream and the last answer of each type.
type proxy struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node   *core.Node
	last   map[string]*discovery.DiscoveryResponse
	has    map[string]string // the version of each type that it took last
	got    chan *discovery.DiscoveryResponse
}

func (r *rig) proxy(node string) *proxy {
	r.t.Helper()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	p := &proxy{t: r.t, stream: stream, node: &core.Node{Id: node}, last: map[string]*discovery.DiscoveryResponse{}, has: map[string]string{}, got: make(chan *discovery.DiscoveryResponse, 100)}
	go func() {
		defer close(p.got)
		for {
			resp, err := stream.Recv()
			if err != nil {
				return
			}
			p.got <- resp
		}
	}()
	return p
}

// ask sends a request for a type, which accepts the last answer of that type, or
// refuses it.
func (p *proxy) ask(kind string, refusal *status.Status, names ...string) {
	p.t.Helper()
	req := &discovery.DiscoveryRequest{Node: p.node, TypeUrl: kind, ResourceNames: names, ErrorDetail: refusal}
	if last := p.last[kind]; last != nil {
		req.ResponseNonce = last.Nonce
		if refusal == nil {
			p.has[kind] = last.VersionInfo
		}
	}
	req.VersionInfo = p.has[kind]
	p.node = nil // only the first request says who it is
	if err := p.stream.Send(req); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) next() *discovery.DiscoveryResponse {
	p.t.Helper()
	select {
	case resp, ok := <-p.got:
		if !ok {
			p.t.Fatal("the stream ended")
		}
		p.last[resp.TypeUrl] = resp
		return resp
	case <-time.After(time.Minute):
		p.t.Fatal("no answer")
	}
	return nil
}

// quiet fails if anything comes. What would come has been sent when a request for
// another type, which is answered at once, is.
func (p *proxy) quiet() {
	p.t.Helper()
	select {
	case resp := <-p.got:
		p.t.Errorf("an answer that nobody waits for: %v", resp)
	case <-time.After(200 * time.Millisecond):
	}
}

func unpack[T any, M interface {
	*T
	proto.Message
}](t *testing.T, resp *discovery.DiscoveryResponse) []M {
	t.Helper()
	var out []M
	for _, r := range resp.Resources {
		m := M(new(T))
		if err := r.UnmarshalTo(m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func clusters(t *testing.T, resp *discovery.DiscoveryResponse) string {
	t.Helper()
	var names []string
	for _, c := range unpack[cluster.Cluster](t, resp) {
		if err := c.ValidateAll(); err != nil || c.GetType() != cluster.Cluster_EDS || c.EdsClusterConfig.EdsConfig.GetAds() == nil || c.ConnectTimeout.AsDuration() != 500*time.Millisecond {
			t.Errorf("cluster %v: %v", c, err)
		}
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// endpoints are those of all assignments, as cluster=zone/address:port,….
func endpoints(t *testing.T, resp *discovery.DiscoveryResponse) string {
	t.Helper()
	var all []string
	for _, a := range unpack[endpoint.ClusterLoadAssignment](t, resp) {
		if err := a.ValidateAll(); err != nil {
			t.Error(err)
		}
		var list []string
		for _, group := range a.Endpoints {
			for _, e := range group.LbEndpoints {
				at := e.GetEndpoint().Address.GetSocketAddress()
				list = append(list, fmt.Sprintf("%s/%s:%d", group.Locality.GetZone(), at.Address, at.GetPortValue()))
			}
		}
		all = append(all, a.ClusterName+"="+strings.Join(list, ","))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func listeners(t *testing.T, resp *discovery.DiscoveryResponse) string {
	t.Helper()
	var all []string
	for _, l := range unpack[listener.Listener](t, resp) {
		if err := l.ValidateAll(); err != nil {
			t.Error(err)
		}
		filter := l.FilterChains[0].Filters[0]
		kind := filter.Name
		if m := new(hcm.HttpConnectionManager); filter.GetTypedConfig().UnmarshalTo(m) == nil {
			kind = "http"
			if len(m.UpgradeConfigs) > 0 {
				kind = m.UpgradeConfigs[0].UpgradeType
			}
			if to := m.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().GetCluster(); to != l.Name {
				t.Errorf("%s leads to %s", l.Name, to)
			}
			if err := m.ValidateAll(); err != nil {
				t.Error(err)
			}
		}
		if m := new(tcpproxy.TcpProxy); filter.GetTypedConfig().UnmarshalTo(m) == nil {
			kind = "tcp"
			if m.GetCluster() != l.Name {
				t.Errorf("%s leads to %s", l.Name, m.GetCluster())
			}
		}
		at := l.Address.GetSocketAddress()
		all = append(all, fmt.Sprintf("%s:%d %s", at.Address, at.GetPortValue(), kind))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAggregatedStream(t *testing.T) {
	r := newRig(t, func(c *envoy.Config) { c.Zone = func(host string) string { return "zone-" + host } })
	r.put("web", "n2", "http", 1, pancake.Alive)
	r.put("web", "n3", "http", 1, pancake.Alive)
	r.put("chat", "n2", "ws", 2, pancake.Alive)
	r.put("db", "n2", "tcp", 3, pancake.Alive)
	r.put("sick", "n2", "http", 4, pancake.Sick)
	r.put("odd", "n2", "spdy", 5, pancake.Alive)
	r.put("squatter", "n9", "http", 1, pancake.Sick)

	p := r.proxy("whatever it is called")
	for want := "chat:10002 db:10003 odd:10005 web:10001"; ; { // the first push may still be on its way
		p.ask(resource.ClusterType, nil)
		if got := clusters(t, p.next()); got == want {
			break
		}
	}
	p.ask(resource.ClusterType, nil)
	names := []string{"web:10001", "chat:10002", "db:10003", "odd:10005"}
	p.ask(resource.EndpointType, nil, names...)
	expect(t, endpoints(t, p.next()), "chat:10002=zone-n2/10.0.0.2:20002 db:10003=zone-n2/10.0.0.2:20003 odd:10005=zone-n2/10.0.0.2:20005 web:10001=zone-n2/10.0.0.2:20001,zone-n3/10.0.0.3:20001")
	p.ask(resource.EndpointType, nil, names...)
	p.ask(resource.ListenerType, nil)
	expect(t, listeners(t, p.next()), "10.9.9.9:10001 http, 10.9.9.9:10002 websocket, 10.9.9.9:10003 tcp")
	p.ask(resource.ListenerType, nil)
	p.ask(resource.RouteType, nil, "none") // nothing of that type: no answer, and no end of the stream
	p.quiet()

	// One instance goes: one resource is sent, and nothing else.
	r.put("web", "n3", "http", 1, pancake.Draining)
	resp := p.next()
	if resp.TypeUrl != resource.EndpointType {
		t.Fatalf("got %v", resp)
	}
	expect(t, endpoints(t, resp), "web:10001=zone-n2/10.0.0.2:20001")
	p.ask(resource.EndpointType, nil, names...)
	p.quiet()

	// A repetition changes nothing.
	r.put("web", "n2", "http", 1, pancake.Alive)
	p.quiet()

	// A service comes: its cluster before its listener.
	r.put("sick", "n2", "http", 4, pancake.Alive)
	expect(t, clusters(t, p.next()), "chat:10002 db:10003 odd:10005 sick:10004 web:10001")
	p.ask(resource.ClusterType, nil)
	expect(t, listeners(t, p.next()), "10.9.9.9:10001 http, 10.9.9.9:10002 websocket, 10.9.9.9:10003 tcp, 10.9.9.9:10004 http")
	p.ask(resource.ListenerType, nil)
	p.ask(resource.EndpointType, nil, append(names, "sick:10004")...)
	expect(t, endpoints(t, p.next()), "sick:10004=zone-n2/10.0.0.2:20004")
	p.ask(resource.EndpointType, nil, append(names, "sick:10004")...)

	// And it goes: its listener before its cluster.
	r.put("sick", "n2", "http", 4, pancake.Tombstone)
	expect(t, listeners(t, p.next()), "10.9.9.9:10001 http, 10.9.9.9:10002 websocket, 10.9.9.9:10003 tcp")
	expect(t, clusters(t, p.next()), "chat:10002 db:10003 odd:10005 web:10001")

	if text := r.log.String(); strings.Count(text, "odd") != 1 || !strings.Contains(text, "none of http, ws and tcp") {
		t.Errorf("the log says\n%s", text)
	}
}

// TestRefusal: a proxy that refuses an update is told of the next, and not of the
// same again and again.
func TestRefusal(t *testing.T) {
	r := newRig(t, nil)
	r.put("web", "n2", "http", 1, pancake.Alive)
	p := r.proxy("n1")
	for {
		p.ask(resource.ListenerType, nil)
		if listeners(t, p.next()) != "" {
			break
		}
	}
	p.ask(resource.ListenerType, nil)
	r.put("web", "n2", "tcp", 1, pancake.Alive)
	expect(t, listeners(t, p.next()), "10.9.9.9:10001 tcp")
	p.ask(resource.ListenerType, &status.Status{Code: 13, Message: "cannot bind"})
	p.quiet()
	r.put("web", "n2", "http", 1, pancake.Alive)
	expect(t, listeners(t, p.next()), "10.9.9.9:10001 http")
	p.ask(resource.ListenerType, nil)
	other := r.proxy("n2") // refuses the very first
	other.ask(resource.ListenerType, nil)
	expect(t, listeners(t, other.next()), "10.9.9.9:10001 http")
	other.ask(resource.ListenerType, &status.Status{Code: 13, Message: "no"})
	other.quiet()
	r.put("web", "n2", "tcp", 1, pancake.Alive)
	expect(t, listeners(t, other.next()), "10.9.9.9:10001 tcp")
	if text := r.log.String(); strings.Count(text, "cannot bind") != 1 || !strings.Contains(text, "node=n1") {
		t.Errorf("the log says\n%s", text)
	}
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, f := range families {
		counted[f.GetName()] = f.Metric[0].GetCounter().GetValue() + f.Metric[0].GetGauge().GetValue()
	}
	if counted["sidecar_envoy_rejections_total"] != 2 || counted["sidecar_envoy_streams"] != 2 {
		t.Errorf("metrics %v", counted)
	}
}

// TestReconnect: a proxy that comes back with what another Sidecar, or this one,
// told it gets everything anew.
func TestReconnect(t *testing.T) {
	r := newRig(t, nil)
	r.put("web", "n2", "http", 1, pancake.Alive)
	p := r.proxy("n1")
	for {
		p.ask(resource.ClusterType, nil)
		if clusters(t, p.next()) != "" {
			break
		}
	}
	for _, version := range []string{p.last[resource.ClusterType].VersionInfo, "stranger-1"} {
		again := r.proxy("n1")
		again.last[resource.ClusterType] = &discovery.DiscoveryResponse{VersionInfo: version}
		again.ask(resource.ClusterType, nil)
		expect(t, clusters(t, again.next()), "web:10001")
	}
}

// TestBadAddresses: an instance whose address no proxy takes does not cost the others.
func TestBadAddresses(t *testing.T) {
	r := newRig(t, nil)
	r.catalog.Merge([]pancake.Service{
		{ID: "1", Name: "web", Hostname: "n2", Status: pancake.Alive, ProxyMode: "http", Updated: noon, Ports: []pancake.ServicePort{{Port: 1, ServicePort: 80, IP: "not-an-ip"}}},
		{ID: "2", Name: "web", Hostname: "n2", Status: pancake.Alive, ProxyMode: "http", Updated: noon, Ports: []pancake.ServicePort{{Port: 0, ServicePort: 80, IP: "10.0.0.2"}}},
		{ID: "3", Name: "web", Hostname: "n2", Status: pancake.Alive, ProxyMode: "http", Updated: noon, Ports: []pancake.ServicePort{{Port: 5, ServicePort: 80, IP: "fd00::5"}}},
	}, noon)
	r.state.Set(r.catalog.Snapshot())
	p := r.proxy("n1")
	for {
		p.ask(resource.EndpointType, nil, "web:80")
		if got := endpoints(t, p.next()); got != "" {
			expect(t, got, "web:80=/fd00::5:5")
			break
		}
	}
}

// TestUseHostnames resolves a name that every machine knows.
func TestUseHostnames(t *testing.T) {
	r := newRig(t, func(c *envoy.Config) { c.UseHostnames = true })
	r.catalog.Merge([]pancake.Service{
		{ID: "1", Name: "web", Hostname: "localhost", Status: pancake.Alive, ProxyMode: "http", Updated: noon, Ports: []pancake.ServicePort{{Port: 1, ServicePort: 80, IP: "10.0.0.1"}}},
		{ID: "2", Name: "web", Hostname: "does-not-exist.invalid", Status: pancake.Alive, ProxyMode: "http", Updated: noon, Ports: []pancake.ServicePort{{Port: 2, ServicePort: 80, IP: "10.0.0.2"}}},
	}, noon)
	r.state.Set(r.catalog.Snapshot())
	p := r.proxy("n1")
	for {
		p.ask(resource.EndpointType, nil, "web:80")
		got := endpoints(t, p.next())
		if got == "" {
			continue
		}
		if got != "web:80=/10.0.0.2:2,/127.0.0.1:1" && got != "web:80=/10.0.0.2:2,/::1:1" {
			t.Errorf("got %s", got)
		}
		break
	}
}

func TestDelta(t *testing.T) {
	r := newRig(t, nil)
	r.put("web", "n2", "http", 1, pancake.Alive)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "n1"}, TypeUrl: resource.ClusterType}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for !seen["web:10001"] || !seen["-web:10001"] {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range resp.Resources {
			seen[res.Name] = true
			r.put("web", "n2", "http", 1, pancake.Sick)
		}
		for _, name := range resp.RemovedResources {
			seen["-"+name] = true
		}
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: resource.ClusterType, ResponseNonce: resp.Nonce}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNew(t *testing.T) {
	if _, err := envoy.New(envoy.Config{BindIP: "here"}); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("a BindIP that is none: %v", err)
	}
	s, err := envoy.New(envoy.Config{Addr: "127.22.4.2:-1", State: feed.New(catalog.New("n1", "c").Snapshot())})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("an address that is none: %v", err)
	}
}
