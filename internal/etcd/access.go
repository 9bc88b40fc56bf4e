package etcd

import (
	"crypto/tls"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// Access is what a cluster asks of its clients. The zero value is for one that asks
// for nothing. With any of its files, or an endpoint that begins with https://, all
// connections use TLS.
type Access struct {
	// CA is a file of the certificates, in PEM, that the servers' are signed with.
	// Default: what the machine trusts.
	CA string
	// Cert and Key are files, in PEM, of the certificate that the cluster knows us by.
	// They are read anew for each connection, so that they may be replaced at any time.
	Cert, Key string
	// User and PasswordFile are for a cluster with "etcdctl auth enable" that does not
	// go by the certificate's name. Nobody else may read the file.
	User, PasswordFile string
}

// tls is the configuration of connections, nil for none.
func (a Access) tls(endpoints []string) (*tls.Config, error) {
	secure, plain := 0, 0
	for _, e := range endpoints {
		switch {
		case strings.HasPrefix(e, "https://"):
			secure++
		case strings.HasPrefix(e, "http://"):
			plain++
		}
	}
	files := a.CA != "" || a.Cert != "" || a.Key != ""
	switch {
	case plain > 0 && (files || secure > 0):
		return nil, pancake.Errorf(pancake.Invalid, "etcd at %s: some endpoints say http:// and others, or the certificates given, mean TLS; write https:// for all", strings.Join(endpoints, ","))
	case (a.Cert == "") != (a.Key == ""):
		return nil, pancake.Errorf(pancake.Invalid, "etcd: a client certificate and its key go together; one of the two is missing")
	case !files && secure == 0:
		return nil, nil
	}
	if a.Key != "" {
		if _, err := identity.ReadPrivate(a.Key); err != nil {
			return nil, pancake.Errorf(pancake.KindOf(err), "etcd: the client certificate's key: %w", err)
		}
	}
	config, err := transport.TLSInfo{CertFile: a.Cert, KeyFile: a.Key, TrustedCAFile: a.CA, Logger: zap.NewNop()}.ClientConfig()
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "etcd: certificates: %w", err)
	}
	return config, nil
}

// password reads the password's file. It fails with Invalid where others could read
// the password on its way.
func (a Access) password(endpoints []string, encrypted bool) (string, error) {
	if (a.User == "") != (a.PasswordFile == "") {
		return "", pancake.Errorf(pancake.Invalid, "etcd: a user and the file with its password go together; one of the two is missing")
	}
	if a.PasswordFile == "" {
		return "", nil
	}
	if open := func(e string) bool { return !serve.Loopback(strings.TrimPrefix(e, "http://")) }; !encrypted && slices.ContainsFunc(endpoints, open) {
		return "", pancake.Errorf(pancake.Invalid, "etcd: the password would travel to %s in clear; use TLS: write https:// before each endpoint", strings.Join(endpoints, ","))
	}
	text, err := identity.ReadPrivate(a.PasswordFile)
	if err != nil {
		return "", pancake.Errorf(pancake.KindOf(err), "etcd: the password's file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
