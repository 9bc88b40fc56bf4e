package guard

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/authority"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// maxBody is the largest body of a call here, in bytes.
const maxBody = 64 << 10

// Handler serves the part of the API that is about identities, and next the rest.
func (g *Guard) Handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	for pattern, h := range map[string]struct {
		action identity.Action
		fn     func(http.ResponseWriter, *http.Request) error
	}{
		"GET /v1/tokens":              {identity.ActionTokens, g.tokens},
		"POST /v1/tokens":             {identity.ActionTokens, g.createToken},
		"DELETE /v1/tokens/{id}":      {identity.ActionTokens, g.revokeToken},
		"POST /v1/ca/issue":           {identity.ActionCA, g.issue},
		"POST /v1/ca/revoke":          {identity.ActionCA, g.revoke},
		"POST /v1/ca/rotate":          {identity.ActionCA, g.rotateCA},
		"POST /v1/ca/reseal":          {identity.ActionCA, g.reseal},
		"GET /v1/gossip-keys":         {identity.ActionCA, g.gossipKeys},
		"POST /v1/gossip-keys/rotate": {identity.ActionCA, g.rotateGossipKey},
		"GET /v1/audit":               {identity.ActionAudit, g.audit},
	} {
		mux.Handle(pattern, serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
			if err := g.Authorize(r.Context(), h.action, cmp.Or(r.PathValue("id"), r.URL.Path)); err != nil {
				return err
			}
			return h.fn(w, r)
		}))
	}
	return mux
}

// target names what a call that was authorized is about, for the audit log.
func target(r *http.Request, name string) {
	if c, ok := r.Context().Value(callKey{}).(*call); ok {
		c.entry.Target = name
	}
}

func (g *Guard) tokens(w http.ResponseWriter, r *http.Request) error {
	known, err := g.authority.Tokens(r.Context(), identity.TokenType(r.FormValue("type")))
	if err != nil {
		return err
	}
	out := make([]client.TokenInfo, len(known))
	for i, t := range known {
		out[i] = tokenView(t)
	}
	return serve.JSON(w, http.StatusOK, out)
}

func tokenView(t authority.TokenInfo) client.TokenInfo {
	return client.TokenInfo{
		ID: t.ID, Type: string(t.Type), Name: t.Name, Created: t.Created, CreatedBy: t.CreatedBy, Expires: t.Expires, Revoked: t.Revoked,
		LastUsed: t.LastUsed, Kind: string(t.Kind), BoundID: t.BoundID, Uses: t.Uses, Used: t.Used,
		Grant: client.Grant{Role: string(t.Grant.Role), Groups: t.Grant.Groups},
	}
}

func (g *Guard) createToken(w http.ResponseWriter, r *http.Request) error {
	var body client.TokenBody
	if err := serve.ReadJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	token, info, err := g.authority.CreateToken(r.Context(), authority.TokenSpec{
		Type: identity.TokenType(body.Type), Name: body.Name, TTL: body.TTL, CreatedBy: g.Caller(r.Context()),
		Kind: identity.Kind(body.Kind), BoundID: body.BoundID, Uses: body.Uses, Grant: grant(body.Grant),
	})
	if err != nil {
		return err
	}
	target(r, info.ID)
	w.Header().Set("Cache-Control", "no-store")
	return serve.JSON(w, http.StatusCreated, client.TokenCreated{Token: token.Reveal(), Info: tokenView(info)})
}

func grant(g client.Grant) identity.Grant {
	return identity.Grant{Role: identity.Role(g.Role), Groups: g.Groups}
}

func (g *Guard) revokeToken(w http.ResponseWriter, r *http.Request) error {
	if err := g.authority.RevokeToken(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// CA answers GET /v1/ca, which is for everybody.
func (g *Guard) CA(w http.ResponseWriter, _ *http.Request) error {
	return serve.JSON(w, http.StatusOK, g.caView())
}

func (g *Guard) caView() client.CAView {
	status := g.authority.CAStatus()
	pems := map[string]string{}
	for _, c := range g.authority.Bundle() {
		pems[identity.FingerprintOf(c).String()] = string(identity.Bundle{c}.PEM())
	}
	out := client.CAView{Cluster: status.Cluster, CAs: []client.CAInfo{}, Rotation: rotationView(status.Rotation)}
	for _, c := range status.CAs {
		out.CAs = append(out.CAs, client.CAInfo{
			Fingerprint: c.Fingerprint, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Issuing: c.Issuing, Certificate: pems[c.Fingerprint],
		})
	}
	return out
}

func rotationView(r authority.Rotation) client.Rotation {
	return client.Rotation{Phase: string(r.Phase), Since: r.Since, Overlap: r.Overlap}
}

func (g *Guard) rotateCA(w http.ResponseWriter, r *http.Request) error {
	var body client.RotateBody
	if err := serve.ReadJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	target(r, "ca")
	rotate := func() error { return g.authority.RotateCA(r.Context(), body.Overlap) }
	if body.Advance != "" {
		rotate = func() error { return g.authority.AdvanceCA(r.Context(), authority.Phase(body.Advance)) }
	}
	if err := rotate(); err != nil {
		return err
	}
	return serve.JSON(w, http.StatusAccepted, g.caView())
}

func (g *Guard) reseal(w http.ResponseWriter, r *http.Request) error {
	target(r, "ca")
	if err := g.authority.Reseal(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Guard) rotateGossipKey(w http.ResponseWriter, r *http.Request) error {
	var body client.RotateBody
	if err := serve.ReadJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	target(r, "gossip-key")
	rotate := func() error { return g.authority.RotateGossipKey(r.Context(), body.Overlap) }
	if body.Advance != "" {
		rotate = func() error { return g.authority.AdvanceGossipKey(r.Context(), authority.Phase(body.Advance)) }
	}
	if err := rotate(); err != nil {
		return err
	}
	return serve.JSON(w, http.StatusAccepted, g.gossipView())
}

func (g *Guard) gossipKeys(w http.ResponseWriter, _ *http.Request) error {
	return serve.JSON(w, http.StatusOK, g.gossipView())
}

func (g *Guard) gossipView() client.GossipView {
	s := g.authority.GossipStatus()
	return client.GossipView{KeyIDs: s.KeyIDs, Rotation: rotationView(s.Rotation)}
}

func (g *Guard) issue(w http.ResponseWriter, r *http.Request) error {
	var body client.IssueBody
	if err := serve.ReadJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(body.CSR))
	if block == nil {
		return pancake.Errorf(pancake.Invalid, "csr is not a PEM block")
	}
	who := identity.Identity{Cluster: g.authority.Cluster(), Kind: identity.Kind(body.Kind), ID: body.ID}
	target(r, who.String())
	if who.Kind == identity.Scheduler || who.Kind == identity.Agent {
		return pancake.Errorf(pancake.Invalid, "schedulers and agents get their certificates by themselves; an agent needs a join token")
	}
	issued, err := g.authority.Issue(r.Context(), block.Bytes, who, identity.IssueOptions{Life: body.Life, Hosts: body.Hosts, Grant: grant(body.Grant)})
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(issued.Cert)
	if err != nil {
		return err
	}
	trust, err := identity.ParseBundle(issued.CAs)
	if err != nil {
		return err
	}
	return serve.JSON(w, http.StatusCreated, client.IssuedView{
		Identity: who.String(), Certificate: string(identity.Bundle{cert}.PEM()), CA: string(trust.PEM()), NotAfter: cert.NotAfter,
	})
}

func (g *Guard) revoke(w http.ResponseWriter, r *http.Request) error {
	var body client.RevokeBody
	if err := serve.ReadJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	who := identity.Identity{Cluster: g.authority.Cluster(), Kind: identity.Kind(body.Kind), ID: body.ID}
	target(r, who.String())
	if err := g.authority.Revoke(r.Context(), who); err != nil {
		return err
	}
	if watcher := g.watcher.Load(); watcher != nil && who.Kind == identity.Agent {
		watcher.Revoked(who.ID)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (g *Guard) audit(w http.ResponseWriter, r *http.Request) error {
	q := authority.AuditQuery{
		Subject: r.FormValue("subject"), Target: r.FormValue("target"), Action: identity.Action(r.FormValue("action")),
		Result: r.FormValue("result"), Cursor: r.FormValue("cursor"),
	}
	for name, at := range map[string]*time.Time{"from": &q.From, "to": &q.To} {
		text := r.FormValue(name)
		if text == "" {
			continue
		}
		var err error
		if *at, err = time.Parse(time.RFC3339, text); err != nil {
			return pancake.Errorf(pancake.Invalid, "%s=%q is not a time like 2006-01-02T15:04:05Z", name, text)
		}
	}
	if text := r.FormValue("limit"); text != "" {
		var err error
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return pancake.Errorf(pancake.Invalid, "limit=%q is not a number from 1 to 1000", text)
		}
	}
	page, err := g.authority.Audit(r.Context(), q)
	if err != nil {
		return err
	}
	out := client.AuditPage{Entries: make([]client.AuditEntry, len(page.Entries)), Next: page.Next}
	for i, e := range page.Entries {
		out.Entries[i] = client.AuditEntry{
			Time: e.Time, Subject: e.Subject, From: e.From, Action: string(e.Action), Target: e.Target, Result: e.Result,
			Reason: string(e.Reason), Message: e.Message, RequestID: e.RequestID, Suppressed: e.Suppressed,
		}
	}
	return serve.JSON(w, http.StatusOK, out)
}
