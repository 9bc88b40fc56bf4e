package membership

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/agentlink"
	"github.com/pancake-stack/pancake/internal/identity"
)

// Times of calls to a scheduler.
const (
	callTimeout = 10 * time.Second
	firstRetry  = 200 * time.Millisecond
	lastRetry   = 10 * time.Second
)

const howToJoin = "make one with \"pancake token create --agent\", and start with --join @<file that holds it>"

// join gets a first identity. Why says what is wrong with the one before.
func (m *Member) join(ctx context.Context, why error) error {
	text, err := m.cfg.Token()
	switch {
	case err != nil:
		return err
	case text == "" && pancake.KindOf(why) == pancake.NotFound:
		return m.denied(identity.Deny(identity.NoToken, "this node has no identity of cluster %q yet, and needs a join token: %s", m.cfg.Self.Cluster, howToJoin))
	case text == "":
		return m.denied(identity.Deny(identity.NoToken, "%w; to join again this node needs a new join token: %s", why, howToJoin))
	}
	token, err := identity.ParseToken(identity.JoinToken, strings.TrimSpace(text))
	if err != nil {
		return m.denied(fmt.Errorf("--join: %w", err))
	}
	key, err := m.files.joinKey()
	if err != nil {
		return err
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		return err
	}
	c, err := m.askAll(ctx, token, csr)
	if err != nil {
		return m.denied(err)
	}
	if err := m.adopt(key, c); err != nil {
		return m.denied(fmt.Errorf("join cluster %q: %w", m.cfg.Self.Cluster, err))
	}
	m.log.InfoContext(ctx, "joined the cluster", "identity", m.cfg.Self.String(), "valid_until", m.source.Leaf().Cert.NotAfter)
	return m.files.joined()
}

// askAll asks one scheduler after the other until one answers. It gives up when one
// refuses the token, or none is the one that the token is of.
func (m *Member) askAll(ctx context.Context, token identity.Token, csr []byte) (identity.Issued, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = firstRetry, lastRetry
	warned := false
	for ctx.Err() == nil {
		var away, wrong error
		for _, addr := range m.cfg.Schedulers {
			issued, err := m.ask(ctx, addr, token, csr)
			switch {
			case err == nil:
				return issued, nil
			case pancake.KindOf(err) == pancake.Unavailable:
				away = err
			case identity.ReasonOf(err) == identity.Refused, identity.ReasonOf(err) == "":
				return identity.Issued{}, err // by a scheduler that has the token's CA
			default:
				wrong = err
			}
		}
		if away == nil {
			return identity.Issued{}, wrong
		}
		if !warned {
			m.log.WarnContext(ctx, "cannot join yet; trying again", "err", errors.Join(wrong, away))
			warned = true
		}
		sleep(ctx, wait.NextBackOff())
	}
	return identity.Issued{}, ctx.Err()
}

func (m *Member) ask(ctx context.Context, addr string, token identity.Token, csr []byte) (identity.Issued, error) {
	cfg := identity.JoinTLSAt(token.Fingerprint, m.cfg.Now)
	known := cfg.VerifyConnection
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := known(cs); err != nil {
			return err
		}
		return m.sameCluster(cs) // before the token is used up
	}
	var c *agentlink.Credentials
	err := m.call(ctx, addr, cfg, func(ctx context.Context, client agentlink.IdentityClient) (err error) {
		c, err = client.Join(ctx, &agentlink.JoinRequest{
			Token: token.Reveal(), Csr: csr, AgentId: m.cfg.Self.ID, Hostname: m.cfg.Hostname,
		})
		return err
	})
	if err != nil {
		return identity.Issued{}, err
	}
	return issued(c)
}

// sameCluster fails when a scheduler is of another cluster than this node shall be.
func (m *Member) sameCluster(cs tls.ConnectionState) error {
	for _, uri := range cs.PeerCertificates[0].URIs {
		if who, err := identity.Parse(uri.String()); err == nil && who.Cluster != m.cfg.Self.Cluster {
			return identity.Deny(identity.WrongCluster, "%s is of another cluster than %q; correct --cluster-name, or use a token of this cluster", who, m.cfg.Self.Cluster)
		}
	}
	return nil
}

// renew has a CSR signed by any of the schedulers.
func (m *Member) renew(ctx context.Context, csr []byte) (identity.Issued, error) {
	cfg := m.source.ClientTLS(m.cfg.scheduler())
	var failed error
	for _, addr := range m.cfg.Schedulers {
		var c *agentlink.Credentials
		err := m.call(ctx, addr, cfg, func(ctx context.Context, client agentlink.IdentityClient) (err error) {
			c, err = client.Renew(ctx, &agentlink.RenewRequest{Csr: csr})
			return err
		})
		if err == nil {
			return issued(c)
		}
		failed = errors.Join(failed, err)
	}
	return identity.Issued{}, m.denied(failed)
}

// issued is an answer in the words of package identity.
func issued(c *agentlink.Credentials) (identity.Issued, error) {
	if len(c.GetCertificate()) == 0 {
		return identity.Issued{}, pancake.Errorf(pancake.Failed, "the scheduler answered without a certificate")
	}
	return identity.Issued{Cert: c.GetCertificate()[0], CAs: c.GetTrust(), GossipKeys: c.GetGossipKeys()}, nil
}

// call calls one scheduler. It fails with Denied when one side refuses the other, with
// Unavailable when asking again may help, and with Conflict or Invalid when it does not.
func (m *Member) call(ctx context.Context, addr string, cfg *tls.Config, fn func(context.Context, agentlink.IdentityClient) error) error {
	cfg, refusal := remember(cfg)
	opts := append(agentlink.DialOptions(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "scheduler address %q: %w", addr, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = fn(ctx, agentlink.NewIdentityClient(conn))
	if err == nil {
		return nil
	}
	if own := refusal(); own != nil {
		return fmt.Errorf("scheduler %s: %w", addr, own)
	}
	return fmt.Errorf("scheduler %s: %w", addr, Explain(err))
}

// remember keeps the error with which this side ends a handshake; gRPC makes mere
// text of it.
func remember(cfg *tls.Config) (*tls.Config, func() error) {
	var mu sync.Mutex
	var refusal error
	keep := func(err error) error {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			refusal = err
		}
		return err
	}
	cfg = cfg.Clone()
	verify, show := cfg.VerifyConnection, cfg.GetClientCertificate
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return keep(verify(cs)) }
	if show != nil {
		cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := show(i)
			return c, keep(err)
		}
	}
	return cfg, func() error {
		mu.Lock()
		defer mu.Unlock()
		return refusal
	}
}

// What crypto/tls says when the other side refuses a certificate, and when it does
// not speak TLS, and what identity.Source says of the own certificate. gRPC passes all
// of it on as text only.
const (
	alertBadCertificate = "remote error: tls: bad certificate"
	notTLS              = "first record does not look like a TLS handshake"
	ownCertificate      = "own certificate: "
)

// Explain says what an error of a call or session means: Denied when the scheduler
// refused this node, Conflict and Invalid when the request cannot be, else Unavailable.
func Explain(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied:
		return identity.Deny(identity.Refused, "the scheduler refuses this node: %s", s.Message())
	case codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return pancake.Errorf(pancake.Conflict, "%s", s.Message())
	case codes.InvalidArgument:
		return pancake.Errorf(pancake.Invalid, "%s", s.Message())
	}
	switch {
	case strings.Contains(s.Message(), alertBadCertificate):
		return identity.Deny(identity.Refused, "the scheduler refuses this node's certificate, and says in its log why; if it was revoked, join with a new token: %s", howToJoin)
	case strings.Contains(s.Message(), ownCertificate):
		return identity.Deny(identity.Refused, "%s; if this does not end by itself, restart the node with a new join token: %s", s.Message(), howToJoin)
	case strings.Contains(s.Message(), notTLS):
		return pancake.Errorf(pancake.Unavailable, "the scheduler does not speak TLS; start it with --secure, or this node with --insecure: %w", err)
	}
	return pancake.Errorf(pancake.Unavailable, "%s: %w", s.Message(), err)
}
