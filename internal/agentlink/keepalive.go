package agentlink

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// pingEvery is how long an agent that hears nothing waits before it asks
// whether the scheduler is still there, and pingTimeout how long it waits for
// the answer. TCP alone takes a quarter of an hour to notice a machine that is gone.
const (
	pingEvery   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// DialOptions are how an agent keeps its link alive and bounded. Both sides
// must agree: see ServerOptions.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
	}
}

// ServerOptions are what a scheduler's gRPC server needs to accept agents that
// dial with DialOptions: gRPC's own limit on pings would throw them out.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
	}
}
