package identity

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync/atomic"
	"time"

	"github.com/pancake-stack/pancake"
)

// Source holds a part's current identity and the CAs it trusts. The TLS
// configurations that it gives read both at each handshake, so a renewal or a
// change of the CA needs no restart and ends no connection. Its methods may be
// called from many goroutines.
type Source struct {
	leaf atomic.Pointer[Leaf]
}

// NewSource begins with a leaf. It fails with Invalid when the leaf is incomplete
// or its parts do not belong together; whether it is still valid is checked at
// each handshake.
func NewSource(leaf Leaf) (*Source, error) {
	s := &Source{}
	return s, s.Set(leaf)
}

// Set replaces leaf and bundle. On failure, with Invalid, the old ones stay.
func (s *Source) Set(leaf Leaf) error {
	if leaf.Key == nil || leaf.Cert == nil || len(leaf.Bundle) == 0 {
		return pancake.Errorf(pancake.Invalid, "an identity needs a key, a certificate and a CA bundle")
	}
	if err := leaf.belongs(); err != nil {
		return err
	}
	if _, err := peerOf(leaf.Cert); err != nil {
		return pancake.Errorf(pancake.Invalid, "own certificate: %w", err)
	}
	s.leaf.Store(&leaf)
	return nil
}

// SetBundle replaces the CAs that are trusted and keeps key and certificate. It
// fails with Invalid for an empty bundle.
func (s *Source) SetBundle(b Bundle) error {
	if len(b) == 0 {
		return pancake.Errorf(pancake.Invalid, "refusing to trust nobody: the CA bundle is empty")
	}
	for {
		old := s.leaf.Load()
		leaf := *old
		leaf.Bundle = b
		if s.leaf.CompareAndSwap(old, &leaf) {
			return nil
		}
	}
}

// Leaf returns the current leaf.
func (s *Source) Leaf() Leaf { return *s.leaf.Load() }

// Identity is whose leaf it is.
func (s *Source) Identity() Identity { return s.leaf.Load().Identity() }

// ServerOptions say whom a server lets in. The zero value takes every part of the
// own cluster, and nobody without a certificate.
type ServerOptions struct {
	// Optional also lets in clients without a certificate, which then have to show
	// something else, such as a token. A certificate that is not good is refused all the same.
	Optional bool
	// Expect narrows down whom to take. Its Cluster defaults to the source's own.
	Expect Expect
	// Allow, if set, decides last, for example whether the certificate was revoked.
	// Its error refuses the client. It must not block.
	Allow func(Peer) error
	// Denied, if set, hears of every refusal: for metrics, by ReasonOf(err), and logs.
	// It must not block.
	Denied func(remote net.Addr, err error)
}

// ServerTLS returns a configuration for a server, HTTP or gRPC. It is TLS 1.3 only.
// A client that is refused gets the same alert whatever the reason.
func (s *Source) ServerTLS(opts ServerOptions) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols(),
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return s.serverTLS(opts, hello.Conn.RemoteAddr()), nil
		},
		// Without it, servers insist on files; GetConfigForClient has the real one.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(), nil },
	}
}

// serverTLS is the configuration for one connection.
func (s *Source) serverTLS(opts ServerOptions, remote net.Addr) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     protocols(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(), nil },
		// All checks are in VerifyConnection, which can tell them apart.
		ClientAuth: tls.RequestClientCert,
		ClientCAs:  s.Leaf().Bundle.Pool(), // a hint, so that browsers do not offer certificates of others
		// A resumed session would show a certificate from before; handshakes are cheap enough.
		SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if opts.Optional && len(cs.PeerCertificates) == 0 {
				return nil
			}
			err := s.admit(cs.PeerCertificates, opts)
			if err != nil && opts.Denied != nil {
				opts.Denied(remote, err)
			}
			return err
		},
	}
}

func (s *Source) admit(chain []*x509.Certificate, opts ServerOptions) error {
	peer, err := s.verify(chain, opts.Expect, x509.ExtKeyUsageClientAuth)
	if err != nil || opts.Allow == nil {
		return err
	}
	return opts.Allow(peer)
}

// ClientTLS returns a configuration for a client, HTTP or gRPC, that shows the
// current certificate and takes only the expected servers, whatever their host
// name. Expect's Cluster defaults to the source's own. It is TLS 1.3 only. Dialling
// fails with Denied when the server is refused, or the own certificate is not good now.
func (s *Source) ClientTLS(expect Expect) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if _, err := s.Leaf().Check(expect.now()); err != nil {
				return nil, pancake.Errorf(pancake.Unauthenticated, "own certificate: %w", err)
			}
			return s.certificate(), nil
		},
		InsecureSkipVerify: true, // of the host name; VerifyConnection checks more
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := s.verify(cs.PeerCertificates, expect, x509.ExtKeyUsageServerAuth)
			return err
		},
	}
}

func (s *Source) verify(chain []*x509.Certificate, expect Expect, usage x509.ExtKeyUsage) (Peer, error) {
	leaf := s.leaf.Load()
	if expect.Cluster == "" {
		expect.Cluster = leaf.Identity().Cluster
	}
	return verifyExpected(chain, leaf.Bundle, expect, usage)
}

// certificate is the leaf with the CA that signed it, by whose fingerprint those
// who join know the server.
func (s *Source) certificate() *tls.Certificate {
	leaf := s.leaf.Load()
	c := &tls.Certificate{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key, Leaf: leaf.Cert}
	if ca := leaf.Bundle.issuer(leaf.Cert); ca != nil {
		c.Certificate = append(c.Certificate, ca.Raw)
	}
	return c
}

// TrustTLS returns a configuration for a client that has no certificate, such as
// the CLI with an API token: it trusts a bundle and takes only the expected servers.
func TrustTLS(trusted Bundle, expect Expect) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         protocols(),
		InsecureSkipVerify: true, // of the host name; VerifyConnection checks more
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := verifyExpected(cs.PeerCertificates, trusted, expect, x509.ExtKeyUsageServerAuth)
			return err
		},
	}
}

// JoinTLS returns a configuration for a client that knows but the fingerprint of a
// CA, from a join token or from "pancake ca show". It takes schedulers only, of any
// cluster. The server has to send its CA's certificate along, as ServerTLS does.
func JoinTLS(ca Fingerprint) *tls.Config { return JoinTLSAt(ca, time.Now) }

// JoinTLSAt is JoinTLS by another clock, for tests.
func JoinTLSAt(ca Fingerprint, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         protocols(),
		InsecureSkipVerify: true, // VerifyConnection checks against the fingerprint
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, c := range cs.PeerCertificates {
				if FingerprintOf(c) == ca && c.IsCA {
					_, err := verifyExpected(cs.PeerCertificates, Bundle{c}, Expect{Kinds: []Kind{Scheduler}, Now: now}, x509.ExtKeyUsageServerAuth)
					return err
				}
			}
			return Deny(WrongCA, "the server's CA is not the one with the fingerprint %s: this is not the scheduler that the token is of, or its CA was replaced since; make a new token", ca)
		},
	}
}

func verifyExpected(chain []*x509.Certificate, trusted Bundle, expect Expect, usage x509.ExtKeyUsage) (Peer, error) {
	peer, err := verify(chain, trusted, usage, expect.now())
	if err != nil {
		return peer, err
	}
	return peer, expect.check(peer)
}

// PeerOf returns who is at the other end of a connection of a configuration made
// here, and false when it showed no certificate or the connection has no TLS.
func PeerOf(cs *tls.ConnectionState) (Peer, bool) {
	if cs == nil || !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return Peer{}, false
	}
	p, err := peerOf(cs.PeerCertificates[0])
	return p, err == nil
}

func protocols() []string { return []string{"h2", "http/1.1"} }
