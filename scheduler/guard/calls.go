package guard

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/authority"
)

// call is one call of the API, and what came of it. One goroutine uses it.
type call struct {
	subject identity.Subject
	entry   authority.Entry
	denied  error
}

type callKey struct{}

// Protect lets through only those who show a good token or certificate, and keeps
// every change and every refusal in the audit log. What open holds, as
// "GET /healthz", is for everybody.
func (g *Guard) Protect(next http.Handler, open ...string) http.Handler {
	public := map[string]bool{}
	for _, o := range open {
		public[o] = true
	}
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		direct := !handedOn(r) // another scheduler bounds those that it hands on itself
		if direct {
			if err := g.clients.enter(from); err != nil {
				return err
			}
			defer g.clients.leave(from)
			if err := g.take(byAddress, network(from)); err != nil {
				return err
			}
		}
		if public[r.Method+" "+r.URL.Path] {
			next.ServeHTTP(w, r)
			return nil
		}
		c := &call{entry: authority.Entry{From: g.from(r, from), RequestID: rand.Text()}}
		var err error
		if c.subject, err = g.authenticate(r); err != nil {
			g.count(err)
			if identity.ReasonOf(err) != "" {
				c.entry.Action, c.entry.Target = identity.Action(r.Method), r.URL.Path
				g.record(r.Context(), c.entry, err)
			}
			return err
		}
		c.entry.Subject = c.subject.Name
		if direct {
			if err := g.take(byCredential, c.subject.Name); err != nil {
				return err
			}
		}
		watched := &answer{ResponseWriter: w}
		next.ServeHTTP(watched, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
		g.conclude(r, c, watched.status)
		return nil
	})
}

// conclude records a call that this scheduler has decided on.
func (g *Guard) conclude(r *http.Request, c *call, status int) {
	if c.entry.Action == "" || c.denied == nil && r.Method == http.MethodGet {
		return // handed on to the leader, not known, or read
	}
	err := c.denied
	if err == nil && status >= http.StatusBadRequest {
		err = fmt.Errorf("%d %s", status, http.StatusText(status))
	}
	g.record(r.Context(), c.entry, err)
}

// handedOn reports whether another scheduler hands a call on.
func handedOn(r *http.Request) bool {
	p, ok := identity.PeerOf(r.TLS)
	return ok && p.Kind == identity.Scheduler
}

// from is the address a call came from first. Only other schedulers, which prove
// to be that, may name another than the one at the end of the connection.
func (g *Guard) from(r *http.Request, addr string) string {
	if handedOn(r) {
		return cmp.Or(r.Header.Get("X-Forwarded-For"), addr)
	}
	return addr
}

// authenticate tells who calls. A token goes before a certificate. Schedulers
// hand calls of others on, so their own certificates stand for nobody.
func (g *Guard) authenticate(r *http.Request) (identity.Subject, error) {
	p, certified := identity.PeerOf(r.TLS)
	if certified {
		if err := g.good(p); err != nil {
			return identity.Subject{}, err
		}
	}
	header := r.Header.Get("Authorization")
	if header == "" && certified && p.Kind != identity.Scheduler {
		return p.Subject(), nil
	}
	if header == "" {
		return identity.Subject{}, identity.Deny(identity.NoToken, `this needs a token: log in with "pancake login", or set PANCAKE_TOKEN`)
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return identity.Subject{}, identity.Deny(identity.Malformed, "the Authorization header is not of the form: Bearer <token>")
	}
	return g.authority.Authenticate(r.Context(), strings.TrimSpace(token))
}

// Authorize fails with Denied unless whoever makes the call of ctx may do a to
// target. What it decides last is what the audit log gets.
func (g *Guard) Authorize(ctx context.Context, a identity.Action, target string, on ...identity.Ownership) error {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return identity.Deny(identity.NoToken, "nobody was asked who this is")
	}
	c.entry.Action, c.entry.Target = a, target
	if c.denied = identity.Authorize(c.subject, a, on...); c.denied != nil {
		g.count(c.denied)
	}
	return c.denied
}

// May reports whether whoever makes the call of ctx may do a, without a record.
func (g *Guard) May(ctx context.Context, a identity.Action, on ...identity.Ownership) bool {
	c, ok := ctx.Value(callKey{}).(*call)
	return ok && identity.Authorize(c.subject, a, on...) == nil
}

// Caller names who makes the call of ctx.
func (g *Guard) Caller(ctx context.Context) string {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.subject.Name
	}
	return ""
}

// answer notes the status. Controllers reach what is behind it through Unwrap.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.status = cmp.Or(a.status, status)
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
