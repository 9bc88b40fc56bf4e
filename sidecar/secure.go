package sidecar

import (
	"context"
	"net/http"

	"github.com/pancake-stack/pancake/internal/admit"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
)

// serveOthers serves the API to other machines. On loopback, whoever has an account on
// the node may use all of it; here a certificate says who may what.
func (s *Sidecar) serveOthers(ctx context.Context, api http.Handler) error {
	denied := func(from string, err error) {
		s.refused.WithLabelValues(string(identity.ReasonOf(err))).Inc()
		s.cfg.Log.DebugContext(ctx, "caller of the API refused", "from", from, "err", err)
	}
	return serve.Run(ctx, admit.Listener(s.cfg.TLSListener, s.cfg.Identity, denied), admit.Handler(api, denied), s.cfg.Log)
}
