package identity

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// gRPC's credentials.NewTLS takes both configurations as they are.
func TestGRPC(t *testing.T) {
	now := time.Now()
	ca := newCA(t, "c1", now)
	sched := source(t, leaf(t, ca, id(Scheduler, "s1"), IssueOptions{}, now))
	agent := source(t, leaf(t, ca, id(Agent, "a1"), IssueOptions{}, now))
	refused := make(chan Reason, 10)
	srv := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(sched.ServerTLS(ServerOptions{
			Expect: Expect{Kinds: []Kind{Agent}},
			Denied: func(_ net.Addr, err error) {
				select {
				case refused <- ReasonOf(err):
				default: // a client that tries again is not waited for
				}
			},
		}))),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			p, _ := peer.FromContext(s.Context())
			info, _ := p.AuthInfo.(credentials.TLSInfo)
			who, ok := PeerOf(&info.State)
			return status.Errorf(codes.AlreadyExists, "%s %v", who.ID, ok)
		}))
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	call := func(s *Source) error {
		conn := must[*grpc.ClientConn](t)(grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(
			credentials.NewTLS(s.ClientTLS(Expect{Kinds: []Kind{Scheduler}})))))
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return conn.Invoke(ctx, "/x.Y/Z", &emptypb.Empty{}, &emptypb.Empty{})
	}
	if err := call(agent); status.Convert(err).Message() != "a1 true" {
		t.Errorf("an agent: %v", err)
	}
	if err := call(sched); status.Code(err) != codes.Unavailable {
		t.Errorf("a scheduler: %v", err)
	}
	if got := <-refused; got != WrongKind {
		t.Errorf("refused as %s", got)
	}
}
