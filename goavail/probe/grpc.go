package probe

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// maxHealth bounds the health service's answer, in bytes: it is one number.
const maxHealth = 4 << 10

// grpcCheck asks the standard health service, over a connection of its own each time.
func grpcCheck(c Check) (func(context.Context) error, error) {
	creds := insecure.NewCredentials()
	if c.TLS {
		cfg, err := tlsConfig(c)
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(cfg)
	}
	dial := dialTo(c)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.Timeout)
		defer cancel()
		failed := make(chan error, 1) // why there is no connection; gRPC hides it in a text
		conn, err := grpc.NewClient("passthrough:///"+c.endpoint(),
			grpc.WithTransportCredentials(watched{creds, c, failed}),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				conn, err := dial(ctx, "tcp", addr)
				tell(failed, err)
				return conn, err
			}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxHealth)), grpc.WithDisableServiceConfig())
		if err != nil {
			return fmt.Errorf("grpc: %w", err)
		}
		resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: c.Service})
		_ = conn.Close() // whatever it says, the answer is here
		var cause error
		select {
		case cause = <-failed:
		default:
		}
		switch {
		case err != nil && cause != nil:
			return plain(cause)
		case status.Code(err) == codes.DeadlineExceeded:
			return errLate
		case err != nil:
			return fmt.Errorf("%s: %s", status.Code(err), status.Convert(err).Message())
		case resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
			return fmt.Errorf("the health service says %s", resp.GetStatus())
		}
		return nil
	}, nil
}

// watched looks at the certificate once the handshake is done.
type watched struct {
	credentials.TransportCredentials
	check  Check
	failed chan error
}

func (w watched) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if state, ok := info.(credentials.TLSInfo); ok && err == nil {
		if err = checkExpiry(&state.State, w.check.CertValid); err != nil {
			_ = conn.Close() // it is not used
		}
	}
	tell(w.failed, err)
	return conn, info, err
}

// tell keeps the first error.
func tell(failed chan<- error, err error) {
	if err == nil {
		return
	}
	select {
	case failed <- err:
	default:
	}
}

// Clone copies the credentials; gRPC wants to be able to.
func (w watched) Clone() credentials.TransportCredentials {
	return watched{w.TransportCredentials.Clone(), w.check, w.failed}
}
