// Package admit lets callers of an HTTP API in by the certificate that they show, and
// lets each do what its role allows: read with any certificate of the cluster, change
// something with an operator's.
package admit

import (
	"crypto/tls"
	"net"
	"net/http"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// Denied hears of a refusal, for logs and for metrics by identity.ReasonOf(err). Who is
// refused knows only that it was. It must not block.
type Denied func(from string, err error)

// Listener serves ln over TLS with source's certificate, to those with a certificate of
// its cluster. Each connection is shown the certificate of its time.
func Listener(ln net.Listener, source *identity.Source, denied Denied) net.Listener {
	return tls.NewListener(ln, source.ServerTLS(identity.ServerOptions{
		Denied: func(from net.Addr, err error) { denied(from.String(), err) },
	}))
}

// Handler passes on to next the calls that their callers may make.
func Handler(next http.Handler, denied Denied) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		err := check(r)
		if err != nil {
			denied(r.RemoteAddr, err)
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

func check(r *http.Request) error {
	peer, ok := identity.PeerOf(r.TLS)
	if !ok {
		return identity.Deny(identity.NoCertificate, "this needs a certificate of the cluster")
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if peer.Kind == identity.Agent {
			return nil // which has no role, and knows what there is to read from its own API
		}
		return identity.Authorize(peer.Subject(), identity.ActionRead)
	}
	return identity.Authorize(peer.Subject(), identity.ActionDrain)
}
