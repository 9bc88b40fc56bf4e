package authority

import (
	"context"
	"errors"
	"time"

	"github.com/pancake-stack/pancake/internal/identity"
)

var errTodo = errors.New("being written")

type caView struct{}
type gossipView struct{}
type revocation struct{}
type flood struct{}

func (a *Authority) bootstrap(ctx context.Context) error { return errTodo }

// Run follows what other schedulers change, advances rotations that are due and
// sweeps what is old, until ctx ends.
func (a *Authority) Run(ctx context.Context) error { return errTodo }

// Bundle is the CAs that are trusted now.
func (a *Authority) Bundle() identity.Bundle { return nil }

// CAStatus describes the CA and its rotation.
func (a *Authority) CAStatus() CAStatus { return CAStatus{} }

// RotateCA begins to replace the CA. Overlap is how long each of the two phases
// lasts; default the life of a certificate. It fails with Conflict while one is under way.
func (a *Authority) RotateCA(ctx context.Context, overlap time.Duration) error { return errTodo }

// AdvanceCA ends the current phase at once.
func (a *Authority) AdvanceCA(ctx context.Context, from Phase) error { return errTodo }

// Issue signs a certificate for whoever the caller vouches for.
func (a *Authority) Issue(ctx context.Context, csr []byte, who identity.Identity, opts identity.IssueOptions) (identity.Issued, error) {
	return identity.Issued{}, errTodo
}

// Join signs a first certificate for the holder of a join token.
func (a *Authority) Join(ctx context.Context, req identity.JoinRequest) (identity.Identity, identity.Issued, error) {
	return identity.Identity{}, identity.Issued{}, errTodo
}

// Renew signs a new certificate for a peer that has shown its current one.
func (a *Authority) Renew(ctx context.Context, peer identity.Peer, csr []byte) (identity.Issued, error) {
	return identity.Issued{}, errTodo
}

// Revoke refuses, from now on, all certificates of an identity issued so far.
func (a *Authority) Revoke(ctx context.Context, who identity.Identity) error { return errTodo }

// Allow fails with Denied for a peer whose certificate was revoked. It reads memory
// only: it is for identity.ServerOptions.
func (a *Authority) Allow(p identity.Peer) error { return errTodo }

// CreateToken makes a token. Its text is shown once and never again.
func (a *Authority) CreateToken(ctx context.Context, spec TokenSpec) (identity.Token, TokenInfo, error) {
	return identity.Token{}, TokenInfo{}, errTodo
}

// Tokens lists the tokens of one type, "" for all, oldest first.
func (a *Authority) Tokens(ctx context.Context, typ identity.TokenType) ([]TokenInfo, error) {
	return nil, errTodo
}

// RevokeToken makes a token useless from now on.
func (a *Authority) RevokeToken(ctx context.Context, id string) error { return errTodo }

// Authenticate tells whose an API token is.
func (a *Authority) Authenticate(ctx context.Context, text string) (identity.Subject, error) {
	return identity.Subject{}, errTodo
}

// GossipKeys are the keys for memberlist now, the one to encrypt with first.
func (a *Authority) GossipKeys() [][]byte { return nil }

// GossipStatus describes the gossip keys and their rotation.
func (a *Authority) GossipStatus() GossipStatus { return GossipStatus{} }

// RotateGossipKey begins to replace the gossip key.
func (a *Authority) RotateGossipKey(ctx context.Context, overlap time.Duration) error {
	return errTodo
}

// AdvanceGossipKey ends the current phase at once.
func (a *Authority) AdvanceGossipKey(ctx context.Context, from Phase) error { return errTodo }

// Reseal seals everything anew, with the sealer's current key.
func (a *Authority) Reseal(ctx context.Context) error { return errTodo }

// Record keeps an entry in the audit log and logs it.
func (a *Authority) Record(ctx context.Context, e Entry) error { return errTodo }

// Audit reads the audit log.
func (a *Authority) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	return AuditPage{}, errTodo
}
