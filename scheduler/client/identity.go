package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// The paths of the API that are about identities. All but GET /v1/ca need the
// role operator; a scheduler that is not secure does not have them.
//
//	GET    /v1/tokens[?type=]        []TokenInfo, oldest first
//	POST   /v1/tokens                TokenBody → TokenCreated; 201
//	DELETE /v1/tokens/{id}           revokes it; 204
//	GET    /v1/ca                    CAView; open to all: it holds nothing secret
//	POST   /v1/ca/issue              IssueBody → IssuedView; 201
//	POST   /v1/ca/revoke             RevokeBody; 204
//	POST   /v1/ca/rotate             RotateBody → CAView; 202
//	POST   /v1/ca/reseal             encrypts the keys in etcd with the current sealing key; 204
//	GET    /v1/gossip-keys           GossipView
//	POST   /v1/gossip-keys/rotate    RotateBody → GossipView; 202
//	GET    /v1/audit[?from=&to=&subject=&target=&action=&result=&limit=&cursor=]   AuditPage

// The types of tokens, as their texts begin.
const (
	JoinToken = "pkj" // gets a node its first certificate
	APIToken  = "pka" // calls the API
)

// Grant is what somebody may do: a role (viewer, deployer or operator), and the
// groups whose requests it is for. The group "*" stands for all.
type Grant struct {
	Role   string   `json:"role,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// TokenBody says what a new token shall be.
type TokenBody struct {
	Type string `json:"type"`           // JoinToken or APIToken
	Name string `json:"name,omitempty"` // what it is for
	// TTL is how long it can be used, in nanoseconds. Default 1 h for join tokens,
	// 90 days for API tokens.
	TTL time.Duration `json:"ttl,omitempty"`

	Kind    string `json:"kind,omitempty"`    // of a join token: what may join; default agent
	BoundID string `json:"boundId,omitempty"` // of a join token: the only ID that may join
	Uses    int    `json:"uses,omitempty"`    // of a join token; default 1

	Grant Grant `json:"grant,omitzero"` // of an API token
}

// TokenCreated is a new token. Its text is told this once and kept nowhere.
type TokenCreated struct {
	Token string    `json:"token"`
	Info  TokenInfo `json:"info"`
}

// TokenInfo is what is known about a token; its secret is not.
type TokenInfo struct {
	ID        string     `json:"id"`
	Type      string     `json:"type"`
	Name      string     `json:"name,omitempty"`
	Created   time.Time  `json:"created"`
	CreatedBy string     `json:"createdBy,omitempty"`
	Expires   time.Time  `json:"expires"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	LastUsed  *time.Time `json:"lastUsed,omitempty"` // up to an hour old

	Kind    string `json:"kind,omitempty"`
	BoundID string `json:"boundId,omitempty"`
	Uses    int    `json:"uses,omitempty"` // allowed
	Used    int    `json:"used,omitempty"`

	Grant Grant `json:"grant,omitzero"`
}

// Rotation is where the replacement of a CA or of a gossip key stands: "stable"
// (there is one), "introduced" (all learn the new one, nobody uses it) or
// "switched" (the new one is used, the old one still taken).
type Rotation struct {
	Phase   string        `json:"phase"`
	Since   time.Time     `json:"since,omitzero"`
	Overlap time.Duration `json:"overlap"` // how long each phase lasts, in nanoseconds
}

// CAView is the certificate authority: the certificates that are trusted now.
type CAView struct {
	Cluster  string   `json:"cluster"`
	CAs      []CAInfo `json:"cas"`
	Rotation Rotation `json:"rotation"`
}

// CAInfo is one CA that is trusted.
type CAInfo struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, hexadecimal
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Issuing     bool      `json:"issuing"`     // signs new certificates
	Certificate string    `json:"certificate"` // PEM
}

// RotateBody replaces the CA or the gossip key.
type RotateBody struct {
	// Overlap is how long each of the two phases lasts, in nanoseconds. Default:
	// the scheduler's.
	Overlap time.Duration `json:"overlap,omitempty"`
	// Advance, if set, begins nothing: it ends this phase of a rotation under way.
	Advance string `json:"advance,omitempty"`
}

// IssueBody asks for a certificate.
type IssueBody struct {
	Kind  string        `json:"kind"` // user, ingress, goavail, proviso, …
	ID    string        `json:"id"`
	CSR   string        `json:"csr"`             // PEM; only its public key is taken
	Life  time.Duration `json:"life,omitempty"`  // in nanoseconds; default 24 h
	Hosts []string      `json:"hosts,omitempty"` // names and addresses, for programs that check those
	Grant Grant         `json:"grant,omitzero"`  // of a user
}

// IssuedView is a certificate and what to trust beside it.
type IssuedView struct {
	Identity    string    `json:"identity"`    // pancake://<cluster>/<kind>/<id>
	Certificate string    `json:"certificate"` // PEM
	CA          string    `json:"ca"`          // PEM
	NotAfter    time.Time `json:"notAfter"`
}

// RevokeBody refuses all certificates that an identity has got so far.
type RevokeBody struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// GossipView is what may be said about the gossip keys.
type GossipView struct {
	KeyIDs   []string `json:"keyIds"` // the one that encrypts first
	Rotation Rotation `json:"rotation"`
}

// The results of an AuditEntry.
const (
	AuditOK     = "ok"
	AuditDenied = "denied"
	AuditFailed = "failed"
)

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	Time       time.Time `json:"time"`
	Subject    string    `json:"subject,omitempty"` // token:<id> or pancake://…; "" when nobody knows
	From       string    `json:"from,omitempty"`    // the address it came from
	Action     string    `json:"action"`
	Target     string    `json:"target,omitempty"` // a request, agent, token or CA
	Result     string    `json:"result"`           // AuditOK, AuditDenied or AuditFailed
	Reason     string    `json:"reason,omitempty"` // which check failed, when denied
	Message    string    `json:"message,omitempty"`
	RequestID  string    `json:"requestId,omitempty"`  // of the call, as in the log
	Suppressed int       `json:"suppressed,omitempty"` // how many like it were not kept
}

// AuditQuery selects entries. Zero fields select all.
type AuditQuery struct {
	From, To                        time.Time // From is included, To is not
	Subject, Target, Action, Result string
	Limit                           int    // 1 to 1,000; default 100
	Cursor                          string // AuditPage.Next of the page before
}

// AuditPage is entries, newest first.
type AuditPage struct {
	Entries []AuditEntry `json:"entries"`
	Next    string       `json:"next,omitempty"` // "" after the last
}

// Tokens lists the tokens of one type, "" for all, oldest first.
func (c *Client) Tokens(ctx context.Context, typ string) (out []TokenInfo, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/tokens?"+url.Values{"type": {typ}}.Encode(), nil, &out)
}

// CreateToken makes a token.
func (c *Client) CreateToken(ctx context.Context, body TokenBody) (out TokenCreated, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/tokens", body, &out)
}

// RevokeToken makes a token useless from now on.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil)
}

// CA returns the certificates that are trusted. It needs no token.
func (c *Client) CA(ctx context.Context) (out CAView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/ca", nil, &out)
}

// IssueCertificate has the CA sign a certificate.
func (c *Client) IssueCertificate(ctx context.Context, body IssueBody) (out IssuedView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/ca/issue", body, &out)
}

// RevokeCertificates refuses all certificates that an identity has got so far.
func (c *Client) RevokeCertificates(ctx context.Context, body RevokeBody) error {
	return c.call(ctx, http.MethodPost, "/v1/ca/revoke", body, nil)
}

// RotateCA begins to replace the CA, or ends a phase of it. It fails with
// Conflict while a rotation is under way, or when that phase is over already.
func (c *Client) RotateCA(ctx context.Context, body RotateBody) (out CAView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/ca/rotate", body, &out)
}

// ResealCA encrypts what etcd holds of keys with the schedulers' current sealing key.
func (c *Client) ResealCA(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/ca/reseal", nil, nil)
}

// GossipKeys says which gossip keys there are.
func (c *Client) GossipKeys(ctx context.Context) (out GossipView, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/gossip-keys", nil, &out)
}

// RotateGossipKey begins to replace the gossip key, or ends a phase of it. It
// fails as RotateCA does.
func (c *Client) RotateGossipKey(ctx context.Context, body RotateBody) (out GossipView, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/gossip-keys/rotate", body, &out)
}

// Audit reads one page of the audit log.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (out AuditPage, err error) {
	values := url.Values{}
	set := func(name, value string) {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !at.IsZero() {
			set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, value := range map[string]string{
		"subject": q.Subject, "target": q.Target, "action": q.Action, "result": q.Result, "cursor": q.Cursor,
	} {
		set(name, value)
	}
	if q.Limit > 0 {
		set("limit", strconv.Itoa(q.Limit))
	}
	return out, c.call(ctx, http.MethodGet, "/v1/audit?"+values.Encode(), nil, &out)
}
