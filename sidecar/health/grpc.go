package health

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
)

// maxMessage bounds an answer, in bytes. It holds one number.
const maxMessage = 4 << 10

// askGRPC asks a server's grpc.health.v1 for a service, "" for the whole server.
// Each check is a connection of its own.
func askGRPC(ctx context.Context, t tlsSettings, addr, service string) error {
	security := insecure.NewCredentials()
	if t.on {
		config, err := t.config()
		if err != nil {
			return err
		}
		security = credentials.NewTLS(config)
	}
	// "passthrough": the address is dialled as it is, and no proxy is asked.
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(addr, "grpc://"),
		grpc.WithTransportCredentials(security), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("pancake-sidecar"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return fmt.Errorf("grpc %s: %w", addr, err)
	}
	defer conn.Close()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return fmt.Errorf("grpc %s: %w", addr, grpcReason(ctx, err, service))
	}
	if answer.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("grpc %s: service %q is %s", addr, service, answer.Status)
	}
	return nil
}

// grpcReason says in plain words why there was no answer.
func grpcReason(ctx context.Context, err error, service string) error {
	switch status.Code(err) {
	case codes.Unimplemented:
		return pancake.Errorf(pancake.Failed, "the server does not offer grpc.health.v1; register it there, or use another type of check")
	case codes.NotFound:
		return pancake.Errorf(pancake.Failed, "the server does not know the service %q; it is what follows the / in %s", service, pancake.LabelHealthCheckArgs)
	case codes.DeadlineExceeded:
		return reason(ctx, err)
	}
	return fmt.Errorf("%s", status.Convert(err).Message())
}
