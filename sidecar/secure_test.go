package sidecar_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/sidecar"
	"github.com/pancake-stack/pancake/sidecar/client"
)

// certify issues a certificate of ca.
func certify(t *testing.T, ca *identity.CA, kind identity.Kind, grant identity.Grant) *identity.Source {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	cert, err := ca.Issue(csr, identity.Identity{Cluster: "c1", Kind: kind, ID: "x"}, identity.IssueOptions{Grant: grant}, now)
	if err != nil {
		t.Fatal(err)
	}
	source, err := identity.NewSource(identity.Leaf{Key: key, Cert: cert, Bundle: identity.Bundle{ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func newCA(t *testing.T) *identity.CA {
	t.Helper()
	ca, err := identity.NewCA("c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Other machines reach the API with a certificate only, and change nothing without an
// operator's.
func TestAPIForOtherMachines(t *testing.T) {
	ca := newCA(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	start(t, "n1", "127.0.0.1", func(cfg *sidecar.Config) {
		cfg.Passive = true
		cfg.TLSListener, cfg.Identity = ln, certify(t, ca, identity.Agent, identity.Grant{})
	})
	dial := func(config *tls.Config) *client.Client {
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &client.Client{URL: "https://" + ln.Addr().String(), HTTP: &http.Client{Transport: transport}}
	}
	agents := identity.Expect{Kinds: []identity.Kind{identity.Agent}}
	for name, tt := range map[string]struct {
		tls         *tls.Config
		read, drain pancake.Kind
		text        string
	}{
		"an operator": {certify(t, ca, identity.User, identity.Grant{Role: identity.Operator}).ClientTLS(agents), "", pancake.NotFound, "not found"},
		"a viewer":    {certify(t, ca, identity.User, identity.Grant{Role: identity.Viewer}).ClientTLS(agents), "", pancake.Forbidden, "role"},
		"an ingress":  {certify(t, ca, identity.Ingress, identity.Grant{}).ClientTLS(agents), "", pancake.Forbidden, "role"},
		"an agent":    {certify(t, ca, identity.Agent, identity.Grant{}).ClientTLS(agents), "", pancake.Forbidden, "role"},
		"a stranger": {
			certify(t, newCA(t), identity.User, identity.Grant{Role: identity.Operator}).ClientTLS(agents),
			pancake.Unavailable, pancake.Unavailable, "CA",
		},
		"nobody": {identity.TrustTLS(identity.Bundle{ca.Cert}, agents), pancake.Unavailable, pancake.Unavailable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(tt.tls)
			if _, err := c.State(t.Context()); kind(err) != tt.read {
				t.Errorf("read: %v, want kind %q", err, tt.read)
			}
			if err := c.Drain(t.Context(), "abc"); kind(err) != tt.drain {
				t.Errorf("drain: %v, want kind %q", err, tt.drain)
			} else if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("drain: %v does not say %q", err, tt.text)
			}
		})
	}
}

func kind(err error) pancake.Kind {
	if err == nil {
		return ""
	}
	return pancake.KindOf(err)
}
