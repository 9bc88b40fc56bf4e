package sidecar

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// secured is the listener for other machines. It shows the certificate of its time to
// each connection.
func (s *Sidecar) secured(ctx context.Context) net.Listener {
	return tls.NewListener(s.cfg.TLSListener, s.cfg.Identity.ServerTLS(identity.ServerOptions{
		Denied: func(from net.Addr, err error) { s.denied(ctx, from.String(), err) },
	}))
}

// denied counts a refusal. Who is refused knows only that it was; the log has the reason.
func (s *Sidecar) denied(ctx context.Context, from string, err error) {
	s.refused.WithLabelValues(string(identity.ReasonOf(err))).Inc()
	s.cfg.Log.DebugContext(ctx, "caller of the API refused", "from", from, "err", err)
}

// guarded lets in what the certificate at the other end may do: read with any of the
// cluster, everything else with an operator's. It is for the API as other machines
// reach it; on loopback, whoever has an account on the node may use all of it.
func (s *Sidecar) guarded(next http.Handler) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		peer, ok := identity.PeerOf(r.TLS)
		if !ok {
			return identity.Deny(identity.NoCertificate, "this needs a certificate of the cluster")
		}
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		if reads && peer.Kind == identity.Agent {
			next.ServeHTTP(w, r) // gossip tells it all this anyway
			return nil
		}
		action := identity.ActionDrain
		if reads {
			action = identity.ActionRead
		}
		if err := identity.Authorize(peer.Subject(), action); err != nil {
			s.denied(r.Context(), r.RemoteAddr, err)
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}
