package authority

import (
	"cmp"
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

// The defaults and bounds of tokens.
const (
	joinTTL   = time.Hour
	apiTTL    = 90 * 24 * time.Hour
	minTTL    = time.Minute
	maxTTL    = 365 * 24 * time.Hour
	maxUses   = 10_000
	maxName   = 128
	usedEvery = time.Hour           // how old LastUsed of an API token may get
	keepEnded = 30 * 24 * time.Hour // so that a late user is told why, and the list shows it
)

// tokenRecord is a token as etcd holds it.
type tokenRecord struct {
	TokenInfo
	Hash []byte `json:"hash"` // SHA-256 of the secret
}

// CreateToken makes a token. Its text, Token.Reveal, is shown once and is not
// stored. It fails with Invalid for a spec that is out of bounds.
func (a *Authority) CreateToken(ctx context.Context, spec TokenSpec) (identity.Token, TokenInfo, error) {
	info, err := a.tokenInfo(spec)
	if err != nil {
		return identity.Token{}, TokenInfo{}, err
	}
	t := identity.NewToken(spec.Type, a.caView().issuing.Fingerprint())
	info.ID = t.ID
	hash := t.Hash()
	d := document[tokenRecord]{key: tokens + t.ID}
	put, err := d.put(tokenRecord{TokenInfo: info, Hash: hash[:]})
	if err == nil && spec.Keep != nil {
		err = spec.Keep(t)
	}
	if err != nil {
		return identity.Token{}, TokenInfo{}, err
	}
	created, err := a.commit(ctx, []clientv3.Cmp{d.unchanged()}, put)
	if err == nil && !created {
		err = pancake.Errorf(pancake.Conflict, "a token with the id %s exists; try again", t.ID)
	}
	if err != nil {
		return identity.Token{}, TokenInfo{}, err
	}
	return t, info, nil
}

func (a *Authority) tokenInfo(spec TokenSpec) (TokenInfo, error) {
	now := a.now()
	info := TokenInfo{Type: spec.Type, Name: spec.Name, Created: now, CreatedBy: spec.CreatedBy}
	ttl := spec.TTL
	switch spec.Type {
	case identity.JoinToken:
		ttl = cmp.Or(ttl, joinTTL)
		info.Kind, info.BoundID, info.Uses = cmp.Or(spec.Kind, identity.Agent), spec.BoundID, cmp.Or(spec.Uses, 1)
		if err := a.validJoin(info); err != nil {
			return info, err
		}
	case identity.APIToken:
		ttl = cmp.Or(ttl, apiTTL)
		info.Grant = spec.Grant
		if err := spec.Grant.Validate(); err != nil {
			return info, err
		}
	default:
		return info, pancake.Errorf(pancake.Invalid, "there is no token of type %q", spec.Type)
	}
	if ttl < minTTL || ttl > maxTTL {
		return info, pancake.Errorf(pancake.Invalid, "a token lives %s to %s, not %s", minTTL, maxTTL, ttl)
	}
	if len(spec.Name) > maxName {
		return info, pancake.Errorf(pancake.Invalid, "the name of a token has at most %d characters", maxName)
	}
	info.Expires = now.Add(ttl)
	return info, nil
}

func (a *Authority) validJoin(info TokenInfo) error {
	if !slices.Contains([]identity.Kind{identity.Agent, identity.Ingress, identity.Goavail, identity.Proviso}, info.Kind) {
		return pancake.Errorf(pancake.Invalid, "a join token is for an agent, ingress, goavail or proviso, not for a %q", info.Kind)
	}
	if info.Uses < 1 || info.Uses > maxUses {
		return pancake.Errorf(pancake.Invalid, "a join token is good for 1 to %d uses, not %d", maxUses, info.Uses)
	}
	if info.BoundID == "" {
		return nil
	}
	if info.Uses != 1 {
		return pancake.Errorf(pancake.Invalid, "a join token for one id is good for one use, not %d", info.Uses)
	}
	return identity.Identity{Cluster: a.cluster, Kind: info.Kind, ID: info.BoundID}.Validate()
}

// Tokens lists the tokens of one type, "" for both, oldest first. Those that ended
// are listed for 30 days.
func (a *Authority) Tokens(ctx context.Context, typ identity.TokenType) ([]TokenInfo, error) {
	var out []TokenInfo
	err := all(ctx, a, tokens, func(d document[tokenRecord]) {
		if typ == "" || d.value.Type == typ {
			out = append(out, d.value.TokenInfo)
		}
	})
	slices.SortFunc(out, func(x, y TokenInfo) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return out, err
}

// RevokeToken makes a token useless from now on, whatever its type. What was joined
// with it stays. It fails with NotFound for an id that is not known.
func (a *Authority) RevokeToken(ctx context.Context, id string) error {
	return update(ctx, a, tokens+id, func(d document[tokenRecord]) (tokenRecord, error) {
		if !d.exists() {
			return d.value, pancake.Errorf(pancake.NotFound, "there is no token %q", id)
		}
		if d.value.Revoked == nil {
			now := a.now()
			d.value.Revoked = &now
		}
		return d.value, nil
	})
}

// Authenticate tells whose an API token is. It asks etcd each time, so that a
// revocation counts at once on every scheduler. It fails with Denied, or with
// Unavailable when etcd does not answer.
func (a *Authority) Authenticate(ctx context.Context, text string) (identity.Subject, error) {
	d, err := a.known(ctx, identity.APIToken, text)
	if err != nil {
		return identity.Subject{}, err
	}
	a.touch(ctx, d)
	return identity.Subject{Name: "token:" + d.value.ID, Grant: d.value.Grant}, nil
}

// known finds the record of a token that is good now. Only who has the secret is
// told more than that a token is not known.
func (a *Authority) known(ctx context.Context, typ identity.TokenType, text string) (document[tokenRecord], error) {
	t, err := identity.ParseToken(typ, text)
	if err != nil {
		return document[tokenRecord]{}, err
	}
	d, err := get[tokenRecord](ctx, a, tokens+t.ID)
	if err != nil {
		return d, err
	}
	if d.value.Type != typ || !t.Matches(d.value.Hash) {
		return d, identity.Deny(identity.UnknownToken, "this token is not known here: it is of another cluster, was mistyped, or ended long ago")
	}
	switch now := a.now(); {
	case d.value.Revoked != nil:
		return d, identity.Deny(identity.Revoked, "token %s was revoked at %s", t.ID, d.value.Revoked.UTC().Format(time.RFC3339))
	case !now.Before(d.value.Expires):
		return d, identity.Deny(identity.Expired, "token %s expired at %s; the clock here says %s",
			t.ID, d.value.Expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return d, nil
}

// touch notes now and then that a token is used. That is worth no failure.
func (a *Authority) touch(ctx context.Context, d document[tokenRecord]) {
	now := a.now()
	if last := d.value.LastUsed; last != nil && now.Sub(*last) < usedEvery {
		return
	}
	d.value.LastUsed = &now
	put, err := d.put(d.value)
	if err == nil {
		_, err = a.commit(ctx, []clientv3.Cmp{d.unchanged()}, put)
	}
	if err != nil {
		a.log.WarnContext(ctx, "use of token not noted", "token", d.value.ID, "err", err)
	}
}

// Join signs a first certificate for the holder of a join token, for the identity
// it returns. Asked again with the same token, id and key it answers again, so that
// an answer that was lost costs no token. It fails with Denied for a token that is
// not good, and with Conflict for an id that another holder's certificate is valid for.
func (a *Authority) Join(ctx context.Context, req identity.JoinRequest) (identity.Identity, identity.Issued, error) {
	d, err := a.known(ctx, identity.JoinToken, req.Token)
	if err != nil {
		return identity.Identity{}, identity.Issued{}, err
	}
	who := identity.Identity{Cluster: a.cluster, Kind: d.value.Kind, ID: req.ID}
	if bound := d.value.BoundID; bound != "" && bound != req.ID {
		return who, identity.Issued{}, identity.Deny(identity.WrongPeer, "token %s is for another id", d.value.ID)
	}
	out, err := a.issue(ctx, req.CSR, who, identity.IssueOptions{}, func(i *issuance) (bool, error) {
		d, err := a.known(ctx, identity.JoinToken, req.Token) // anew at each attempt
		if err != nil {
			return false, err
		}
		return true, a.use(i, d, who)
	})
	return who, out, err
}

// use counts one use of a join token in the transaction that issues with it.
func (a *Authority) use(i *issuance, d document[tokenRecord], who identity.Identity) error {
	now, t := a.now(), d.value
	i.token = t.ID
	i.conditions = append(i.conditions, d.unchanged())
	if last := i.last.value; i.taken(now) {
		if last.KeyHash != i.keyHash() {
			return pancake.Errorf(pancake.Conflict, "%s has a certificate until %s; revoke it, or join with another id",
				who, last.NotAfter.UTC().Format(time.RFC3339))
		}
		if last.Token == t.ID {
			return nil // the same once more
		}
	}
	if t.Used >= t.Uses {
		return identity.Deny(identity.UsedToken, "token %s has been used %d of %d times; make a new one", t.ID, t.Used, t.Uses)
	}
	t.Used++
	t.LastUsed = &now
	put, err := d.put(t)
	i.writes = append(i.writes, put)
	return err
}
