package envoy

import (
	"fmt"
	"maps"
	"slices"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/envoyproxy/go-control-plane/pkg/wellknown"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/envoy/export"
)

// connectTimeout is how long a proxy tries to reach an instance: NinesStack Sidecar's.
const connectTimeout = 500 * time.Millisecond

// clusterOf makes a cluster whose endpoints come over the same stream. It depends
// on the name alone, so that a proxy never has to warm it up again.
func clusterOf(c export.Cluster) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                 c.Name,
		ConnectTimeout:       durationpb.New(connectTimeout),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: &core.ConfigSource{
			ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
			ResourceApiVersion:    core.ApiVersion_V3,
		}},
	}
}

// assignmentOf makes the endpoints of a cluster, grouped by zone.
func assignmentOf(c export.Cluster) *endpoint.ClusterLoadAssignment {
	zones := map[string]*endpoint.LocalityLbEndpoints{}
	for _, e := range c.Endpoints {
		group := zones[e.Zone]
		if group == nil {
			group = &endpoint.LocalityLbEndpoints{}
			if e.Zone != "" {
				group.Locality = &core.Locality{Zone: e.Zone}
			}
			zones[e.Zone] = group
		}
		group.LbEndpoints = append(group.LbEndpoints, endpointOf(e))
	}
	out := &endpoint.ClusterLoadAssignment{ClusterName: c.Name}
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		out.Endpoints = append(out.Endpoints, zones[name])
	}
	return out
}

func endpointOf(e export.Endpoint) *endpoint.LbEndpoint {
	text := structpb.NewStringValue
	return &endpoint.LbEndpoint{
		HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
			Address:  address(e.IP, e.Port),
			Hostname: e.Host,
		}},
		// Access logs and subset balancing can use these.
		Metadata: &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {
			Fields: map[string]*structpb.Value{"host": text(e.Host), "id": text(e.ID), "image": text(e.Image)},
		}}},
	}
}

func address(ip string, port int64) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: ip, PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

// listenerOf makes the listener that hands what arrives on the ServicePort to the
// cluster. It fails for a ProxyMode that there is not.
func listenerOf(c export.Cluster, bindIP string) (*listener.Listener, error) {
	var name string
	var filter proto.Message
	switch c.Mode {
	case "http", "ws":
		manager := httpManager(c)
		if c.Mode == "ws" {
			manager.UpgradeConfigs = []*hcm.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
		}
		name, filter = wellknown.HTTPConnectionManager, manager
	case "tcp":
		name, filter = wellknown.TCPProxy, &tcp.TcpProxy{
			StatPrefix: "ingress_tcp", ClusterSpecifier: &tcp.TcpProxy_Cluster{Cluster: c.Name},
		}
	default:
		return nil, pancake.Errorf(pancake.Invalid, "ProxyMode %q is none of http, ws and tcp: there is no listener", c.Mode)
	}
	config, err := anypb.New(filter)
	if err != nil {
		return nil, fmt.Errorf("encode the listener: %w", err)
	}
	return &listener.Listener{
		Name:    c.Name,
		Address: address(bindIP, c.Port),
		FilterChains: []*listener.FilterChain{{Filters: []*listener.Filter{{
			Name: name, ConfigType: &listener.Filter_TypedConfig{TypedConfig: config},
		}}}},
	}, nil
}

func httpManager(c export.Cluster) *hcm.HttpConnectionManager {
	// An empty message always has an encoding.
	routerConfig, _ := anypb.New(&router.Router{})
	return &hcm.HttpConnectionManager{
		StatPrefix: "ingress_http",
		HttpFilters: []*hcm.HttpFilter{{
			Name: wellknown.Router, ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: routerConfig},
		}},
		RouteSpecifier: &hcm.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{
			ValidateClusters: wrapperspb.Bool(false), // the cluster may come a moment later
			VirtualHosts: []*route.VirtualHost{{
				Name: c.Service, Domains: []string{"*"},
				Routes: []*route.Route{{
					Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
					Action: &route.Route_Route{Route: &route.RouteAction{
						ClusterSpecifier: &route.RouteAction_Cluster{Cluster: c.Name},
						Timeout:          durationpb.New(0), // none
					}},
				}},
			}},
		}},
	}
}
