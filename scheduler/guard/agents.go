package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"math"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/authority"
)

// The actions of parts that get certificates, in the audit log.
const (
	actionJoin  identity.Action = "join"
	actionRenew identity.Action = "renew"
)

// Identity is the service that gives agents their certificates.
func (g *Guard) Identity() agentlink.IdentityServer { return &identityServer{guard: g} }

type identityServer struct {
	agentlink.UnimplementedIdentityServer
	guard *Guard
}

// Join implements the service. The token is all that the caller has to show.
func (s *identityServer) Join(ctx context.Context, req *agentlink.JoinRequest) (*agentlink.Credentials, error) {
	g := s.guard
	if err := g.take(byAddress, network(remote(ctx))); err != nil {
		return nil, slowStatus(ctx, err)
	}
	who, issued, err := g.authority.Join(ctx, identity.JoinRequest{Token: req.GetToken(), ID: req.GetAgentId(), CSR: req.GetCsr()})
	g.count(err)
	e := authority.Entry{From: remote(ctx), Action: actionJoin, Target: req.GetAgentId()}
	if err == nil {
		e.Subject = who.String()
	}
	g.record(ctx, e, err)
	if err != nil {
		return nil, Status(err)
	}
	return g.credentials(issued), nil
}

// Renew implements the service.
func (s *identityServer) Renew(ctx context.Context, req *agentlink.RenewRequest) (*agentlink.Credentials, error) {
	g := s.guard
	if err := g.take(byAddress, network(remote(ctx))); err != nil {
		return nil, slowStatus(ctx, err)
	}
	p, err := g.peer(ctx)
	var issued identity.Issued
	if err == nil {
		issued, err = g.authority.Renew(ctx, p, req.GetCsr())
	}
	if err != nil {
		g.count(err)
		e := authority.Entry{From: remote(ctx), Action: actionRenew}
		if p.ID != "" {
			e.Subject, e.Target = p.Identity.String(), p.ID
		}
		g.record(ctx, e, err)
		return nil, Status(err)
	}
	return g.credentials(issued), nil
}

func (g *Guard) credentials(i identity.Issued) *agentlink.Credentials {
	return &agentlink.Credentials{Certificate: [][]byte{i.Cert}, Trust: i.CAs, GossipKeys: i.GossipKeys}
}

// Agent implements agents.Security: it returns the id of the agent at the other end
// of a call, and fails with Denied when that is none, or not the one it claims to be.
func (g *Guard) Agent(ctx context.Context, claimed string) (string, error) {
	p, err := g.peer(ctx)
	switch {
	case err != nil:
	case p.Kind != identity.Agent:
		err = identity.Deny(identity.WrongKind, "%s is not an agent", p.Identity)
	case claimed != "" && claimed != p.ID:
		err = identity.Deny(identity.WrongPeer, "the certificate is of %s, which may not speak for another agent", p.Identity)
	}
	if err != nil {
		g.count(err)
		g.log.WarnContext(ctx, "agent refused", "from", remote(ctx), "reason", string(identity.ReasonOf(err)), "err", err)
	}
	return p.ID, err
}

// Shared implements agents.Security: it returns what all nodes share now, and whether
// the caller of ctx needs a new certificate because another CA issues now.
func (g *Guard) Shared(ctx context.Context) *agentlink.Credentials {
	c := &agentlink.Credentials{Trust: g.authority.Bundle().DER(), GossipKeys: g.authority.GossipKeys()}
	if info, ok := tlsInfo(ctx); ok && len(info.State.PeerCertificates) > 0 {
		c.Renew = g.outdated(info.State.PeerCertificates[0])
	}
	return c
}

// outdated reports whether another CA than the one that issues has signed c.
func (g *Guard) outdated(c *x509.Certificate) bool {
	return c.CheckSignatureFrom(g.authority.Bundle()[0]) != nil
}

func (g *Guard) peer(ctx context.Context) (identity.Peer, error) {
	info, _ := tlsInfo(ctx)
	p, ok := identity.PeerOf(&info.State)
	if !ok {
		return p, identity.Deny(identity.NoCertificate, `this needs a certificate; an agent gets one with "pancake agent --join <token>"`)
	}
	return p, g.good(p)
}

func tlsInfo(ctx context.Context) (credentials.TLSInfo, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return credentials.TLSInfo{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return info, ok
}

// remote is the address of the caller, without the port.
func remote(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, _ := net.SplitHostPort(p.Addr.String())
	return host
}

// slowStatus is what gRPC sends to a client that has made too many calls; the header
// retry-after has the seconds to wait.
func slowStatus(ctx context.Context, err error) error {
	if slow, ok := errors.AsType[*tooMany](err); ok {
		_ = grpc.SetHeader(ctx, metadata.Pairs("retry-after", strconv.Itoa(int(math.Ceil(slow.wait.Seconds()))))) // the status says it, too
	}
	return status.Error(codes.ResourceExhausted, err.Error())
}

// Status is what gRPC sends for a failure.
func Status(err error) error {
	code := codes.Unavailable
	switch pancake.KindOf(err) {
	case pancake.Unauthenticated:
		code = codes.Unauthenticated
	case pancake.Forbidden:
		code = codes.PermissionDenied
	case pancake.Conflict:
		code = codes.FailedPrecondition
	case pancake.Invalid:
		code = codes.InvalidArgument
	}
	return status.Error(code, err.Error())
}
