package authority

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

func TestJoin(t *testing.T) {
	r := newRig(t)
	a := r.open()
	tok := r.token(a, TokenSpec{Type: identity.JoinToken})
	l, err := r.join(a, tok, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Identity(); got != (identity.Identity{Cluster: DefaultCluster, Kind: identity.Agent, ID: "node-1"}) {
		t.Errorf("joined as %s", got)
	}
	if tok.Fingerprint != identity.FingerprintOf(a.Bundle()[0]) {
		t.Error("the token has another fingerprint")
	}
	_, err = r.join(a, tok, "node-2")
	wantReason(t, "a used token", err, identity.UsedToken)
	r.clock.add(time.Second)
	again := r.token(a, TokenSpec{Type: identity.JoinToken})
	if _, err := r.join(a, again, "node-1"); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("an id that is taken: %v", err)
	}
	if list, err := a.Tokens(t.Context(), identity.JoinToken); err != nil || len(list) != 2 || list[0].Used != 1 || list[1].Used != 0 {
		t.Errorf("tokens %+v, %v", list, err)
	}
	r.clock.add(25 * time.Hour) // the certificate has expired, the id is free
	if _, err := r.join(a, r.token(a, TokenSpec{Type: identity.JoinToken}), "node-1"); err != nil {
		t.Errorf("after the certificate's end: %v", err)
	}
}

// Whoever lost the answer asks again with the same key, and nobody else may.
func TestJoinAgain(t *testing.T) {
	r := newRig(t)
	a := r.open()
	tok := r.token(a, TokenSpec{Type: identity.JoinToken})
	key, csr := newKey(t)
	req := identity.JoinRequest{Token: tok.Reveal(), ID: "n", CSR: csr}
	for range 3 {
		who, issued, err := a.Join(t.Context(), req)
		if err != nil || who.ID != "n" {
			t.Fatal(err)
		}
		if _, err := identity.NewLeaf(key, issued, r.clock.now()); err != nil {
			t.Error(err)
		}
		if !slices.EqualFunc(issued.GossipKeys, a.GossipKeys(), bytes.Equal) {
			t.Error("the gossip keys are not handed out")
		}
	}
	if list, _ := a.Tokens(t.Context(), ""); list[0].Used != 1 {
		t.Errorf("counted %d uses", list[0].Used)
	}
	if _, err := r.join(a, tok, "n"); pancake.KindOf(err) != pancake.Conflict {
		t.Errorf("with another key: %v", err)
	}
	if err := a.RevokeToken(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	_, _, err := a.Join(t.Context(), req)
	r.clock.add(time.Second)
	req.Token = r.token(a, TokenSpec{Type: identity.JoinToken}).Reveal()
	if _, _, err := a.Join(t.Context(), req); err != nil {
		t.Errorf("with the same key and another token: %v", err)
	}
	if list, _ := a.Tokens(t.Context(), ""); list[1].Used != 1 {
		t.Error("another token is not counted")
	}
	wantReason(t, "with a token that was revoked since", err, identity.Revoked)
}

func TestOneOfManyWinsATokensLastUse(t *testing.T) {
	r := newRig(t)
	schedulers := []*Authority{r.open(), r.open()}
	for _, uses := range []int{1, 3} {
		tok := r.token(schedulers[0], TokenSpec{Type: identity.JoinToken, Uses: uses})
		var won, used atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := r.join(schedulers[i%2], tok, "n"+strings.Repeat("x", 10*uses+i))
				switch {
				case err == nil:
					won.Add(1)
				case identity.ReasonOf(err) == identity.UsedToken:
					used.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if int(won.Load()) != uses || int(used.Load()) != 8-uses {
			t.Errorf("%d uses: %d won, %d were refused", uses, won.Load(), used.Load())
		}
	}
	// One id, many tokens: one may have it.
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 4 {
		tok := r.token(schedulers[0], TokenSpec{Type: identity.JoinToken})
		wg.Go(func() {
			if _, err := r.join(schedulers[i%2], tok, "same"); err == nil {
				won.Add(1)
			} else if pancake.KindOf(err) != pancake.Conflict {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have the same id", won.Load())
	}
}

func TestBadTokens(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	a := r.open()
	other := newRig(t).open() // another cluster
	viewer := identity.Grant{Role: identity.Viewer, Groups: []string{"web"}}
	join := func(spec TokenSpec) identity.Token { spec.Type = identity.JoinToken; return r.token(a, spec) }
	api := func(spec TokenSpec) identity.Token {
		spec.Type, spec.Grant = identity.APIToken, viewer
		return r.token(a, spec)
	}
	foreign, _, err := other.CreateToken(ctx, TokenSpec{Type: identity.JoinToken})
	if err != nil {
		t.Fatal(err)
	}
	revokedJoin, revokedAPI := join(TokenSpec{}), api(TokenSpec{})
	expiredJoin, expiredAPI := join(TokenSpec{TTL: time.Minute}), api(TokenSpec{TTL: time.Minute})
	goodJoin, goodAPI, bound := join(TokenSpec{}), api(TokenSpec{}), join(TokenSpec{BoundID: "n7"})
	for _, tok := range []identity.Token{revokedJoin, revokedAPI} {
		if err := a.RevokeToken(ctx, tok.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.clock.add(time.Minute)
	wrong := func(tok identity.Token) identity.Token {
		tok.Secret = identity.NewToken(tok.Type, tok.Fingerprint).Secret
		return tok
	}
	disguised := goodAPI // an API token's id and secret, as a join token
	disguised.Type = identity.JoinToken
	_, csr := newKey(t)
	for name, tc := range map[string]struct {
		text, id string
		csr      []byte
		want     identity.Reason
	}{
		"none":             {"", "n", csr, identity.NoToken},
		"garbage":          {"hunter2", "n", csr, identity.Malformed},
		"an API token":     {goodAPI.Reveal(), "n", csr, identity.Malformed},
		"disguised":        {disguised.Reveal(), "n", csr, identity.UnknownToken},
		"another cluster":  {foreign.Reveal(), "n", csr, identity.UnknownToken},
		"wrong secret":     {wrong(goodJoin).Reveal(), "n", csr, identity.UnknownToken},
		"revoked, guessed": {wrong(revokedJoin).Reveal(), "n", csr, identity.UnknownToken},
		"revoked":          {revokedJoin.Reveal(), "n", csr, identity.Revoked},
		"expired":          {expiredJoin.Reveal(), "n", csr, identity.Expired},
		"another id":       {bound.Reveal(), "n", csr, identity.WrongPeer},
	} {
		_, _, err := a.Join(ctx, identity.JoinRequest{Token: tc.text, ID: tc.id, CSR: tc.csr})
		wantReason(t, "join, "+name, err, tc.want)
	}
	for name, req := range map[string]identity.JoinRequest{
		"garbage as CSR": {Token: goodJoin.Reveal(), ID: "n", CSR: []byte("hunter2")},
		"no id":          {Token: goodJoin.Reveal(), CSR: csr},
		"id with slash":  {Token: goodJoin.Reveal(), ID: "../scheduler/x", CSR: csr},
	} {
		if _, _, err := a.Join(ctx, req); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		text string
		want identity.Reason
	}{
		"none": {"", identity.NoToken}, "garbage": {"Bearer x", identity.Malformed}, "a join token": {goodJoin.Reveal(), identity.Malformed},
		"wrong secret": {wrong(goodAPI).Reveal(), identity.UnknownToken}, "revoked": {revokedAPI.Reveal(), identity.Revoked}, "expired": {expiredAPI.Reveal(), identity.Expired},
	} {
		_, err := a.Authenticate(ctx, tc.text)
		wantReason(t, "authenticate, "+name, err, tc.want)
	}
	if s, err := a.Authenticate(ctx, goodAPI.Reveal()); err != nil || s.Name != "token:"+goodAPI.ID || s.Role != identity.Viewer || !slices.Equal(s.Groups, viewer.Groups) {
		t.Errorf("a good token: %+v, %v", s, err)
	}
	if _, err := r.join(a, goodJoin, "n"); err != nil {
		t.Errorf("refusals used up the good token: %v", err)
	}
	if _, err := r.join(a, bound, "n7"); err != nil {
		t.Errorf("the id it is for: %v", err)
	}
}

func TestTokenSpecs(t *testing.T) {
	r := newRig(t)
	a := r.open()
	viewer := identity.Grant{Role: identity.Viewer}
	for name, spec := range map[string]TokenSpec{
		"no type":          {},
		"no role":          {Type: identity.APIToken},
		"unknown role":     {Type: identity.APIToken, Grant: identity.Grant{Role: "root"}},
		"strange group":    {Type: identity.APIToken, Grant: identity.Grant{Role: identity.Viewer, Groups: []string{"a b"}}},
		"too short":        {Type: identity.APIToken, Grant: viewer, TTL: time.Second},
		"too long":         {Type: identity.APIToken, Grant: viewer, TTL: maxTTL + 1},
		"long name":        {Type: identity.APIToken, Grant: viewer, Name: strings.Repeat("x", 129)},
		"no uses":          {Type: identity.JoinToken, Uses: -1},
		"too many uses":    {Type: identity.JoinToken, Uses: maxUses + 1},
		"a scheduler":      {Type: identity.JoinToken, Kind: identity.Scheduler},
		"a user":           {Type: identity.JoinToken, Kind: identity.User},
		"bound, two uses":  {Type: identity.JoinToken, BoundID: "n", Uses: 2},
		"bound to nothing": {Type: identity.JoinToken, BoundID: "/"},
	} {
		if _, _, err := a.CreateToken(t.Context(), spec); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := a.Tokens(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("tokens %v, %v", list, err)
	}
	if err := a.RevokeToken(t.Context(), "nobody"); pancake.KindOf(err) != pancake.NotFound {
		t.Errorf("revoke what is not there: %v", err)
	}
}

func TestLastUsedIsCoarse(t *testing.T) {
	r := newRig(t)
	a := r.open()
	tok := r.token(a, TokenSpec{Type: identity.APIToken, Grant: identity.Grant{Role: identity.Operator}})
	start := r.clock.now()
	for _, tc := range []struct{ wait, want time.Duration }{{0, 0}, {59 * time.Minute, 0}, {time.Minute, time.Hour}} {
		r.clock.add(tc.wait)
		if _, err := a.Authenticate(t.Context(), tok.Reveal()); err != nil {
			t.Fatal(err)
		}
		list, err := a.Tokens(t.Context(), identity.APIToken)
		if err != nil || list[0].LastUsed == nil || !list[0].LastUsed.Equal(start.Add(tc.want)) {
			t.Errorf("after %s: %+v, %v", tc.wait, list, err)
		}
	}
}

func TestRenewAndRevoke(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	a, b := r.open(), r.open()
	r.run(b)
	l, err := r.join(a, r.token(a, TokenSpec{Type: identity.JoinToken}), "n")
	if err != nil {
		t.Fatal(err)
	}
	renew := func(p identity.Peer) (identity.Leaf, error) {
		key, csr := newKey(t)
		issued, err := a.Renew(ctx, p, csr)
		if err != nil {
			return identity.Leaf{}, err
		}
		return identity.NewLeaf(key, issued, r.clock.now())
	}
	r.clock.add(16 * time.Hour)
	second, err := renew(r.peer(l))
	if err != nil || second.Identity() != l.Identity() || !second.Cert.NotAfter.After(l.Cert.NotAfter) {
		t.Fatalf("renewed: %v", err)
	}
	peer := r.peer(second)
	if err := b.Allow(peer); err != nil {
		t.Errorf("before: %v", err)
	}
	if err := a.Revoke(ctx, l.Identity()); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]identity.Peer{"first": r.peer(l), "second": peer} {
		wantReason(t, name+" is allowed", a.Allow(p), identity.Revoked)
		_, err := renew(p)
		wantReason(t, name+" is renewed", err, identity.Revoked)
	}
	eventually(t, "the other scheduler refuses it too", func() bool { return identity.ReasonOf(b.Allow(peer)) == identity.Revoked })
	wantReason(t, "after a restart", r.open().Allow(peer), identity.Revoked)

	third, err := r.join(a, r.token(a, TokenSpec{Type: identity.JoinToken}), "n") // in the same second
	if err != nil {
		t.Fatalf("joins again: %v", err)
	}
	if err := a.Allow(r.peer(third)); err != nil {
		t.Errorf("joined again: %v", err)
	}
	wantReason(t, "the one from before", a.Allow(peer), identity.Revoked)

	expired := peer
	expired.NotAfter = r.clock.now()
	_, err = renew(expired)
	wantReason(t, "expired", err, identity.Expired)
	_, err = renew(identity.Peer{Identity: identity.Identity{Cluster: DefaultCluster, Kind: identity.User, ID: "u"}, NotAfter: r.clock.now().Add(time.Hour)})
	wantReason(t, "a user", err, identity.WrongKind)
	if err := a.Revoke(ctx, identity.Identity{Cluster: "other", Kind: identity.Agent, ID: "n"}); pancake.KindOf(err) != pancake.Invalid {
		t.Errorf("revoke in another cluster: %v", err)
	}
}

// A certificate by a scheduler whose clock is an hour ahead is revoked as well.
func TestRevokeWithClocksApart(t *testing.T) {
	r := newRig(t)
	cfg := r.config()
	cfg.Now = func() time.Time { return r.clock.now().Add(time.Hour) }
	ahead, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := r.open()
	key, csr := newKey(t)
	who := identity.Identity{Cluster: DefaultCluster, Kind: identity.Agent, ID: "n"}
	issued, err := ahead.Issue(t.Context(), csr, who, identity.IssueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = identity.NewLeaf(key, issued, r.clock.now())
	wantReason(t, "taken by a part whose clock is right", err, identity.NotYetValid)
	l, err := identity.NewLeaf(key, issued, r.clock.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	p, err := l.Check(r.clock.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, "allowed", a.Allow(p), identity.Revoked)
}

func TestSweep(t *testing.T) {
	r := newRig(t)
	a := r.open()
	tok := r.token(a, TokenSpec{Type: identity.JoinToken})
	l, err := r.join(a, tok, "n")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(t.Context(), l.Identity()); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		t.Helper()
		for _, prefix := range []string{tokens, issued, revoked} {
			if err := all(t.Context(), a, prefix, func(document[struct{}]) { n++ }); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for _, tc := range []struct {
		wait time.Duration
		left int
	}{{0, 3}, {29 * 24 * time.Hour, 3}, {3 * 24 * time.Hour, 1}, {100 * 24 * time.Hour, 0}} {
		r.clock.add(tc.wait)
		if err := a.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != tc.left {
			t.Errorf("%d are left, want %d", n, tc.left)
		}
	}
}
