package authority

import (
	"time"

	"github.com/pancake-stack/pancake/internal/identity"
)

// Phase is how far the replacement of a CA or a gossip key has come.
type Phase string

// The phases, in order; after Switched comes Stable again.
const (
	Stable     Phase = "stable"     // there is one
	Introduced Phase = "introduced" // the new one is known to all but not used yet
	Switched   Phase = "switched"   // the new one is used, the old one still taken
)

// Rotation is where the replacement of a CA or of a gossip key stands.
type Rotation struct {
	Phase Phase `json:"phase"`
	// Since is when the phase began.
	Since time.Time `json:"since"`
	// Overlap is how long Introduced and Switched last, unless somebody advances them.
	Overlap time.Duration `json:"overlap"`
}

// CAInfo is one CA, as "pancake ca show" prints it.
type CAInfo struct {
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Issuing     bool      `json:"issuing"` // signs new certificates
}

// CAStatus is what there is to know about the CA.
type CAStatus struct {
	Cluster  string   `json:"cluster"`
	CAs      []CAInfo `json:"cas"` // all that are trusted
	Rotation Rotation `json:"rotation"`
}

// GossipStatus is what may be said about the gossip keys.
type GossipStatus struct {
	KeyIDs   []string `json:"keyIds"` // the one that encrypts first
	Rotation Rotation `json:"rotation"`
}

// TokenSpec is what a new token shall be.
type TokenSpec struct {
	Type identity.TokenType
	// Name says what it is for. Up to 128 characters.
	Name string
	// TTL is how long it can be used: 1 min to 1 year. Default 1 h for join tokens, 90 days for API tokens.
	TTL time.Duration
	// CreatedBy is the name of the subject that asked.
	CreatedBy string

	// Kind is what may join: agent (the default), ingress, goavail or proviso.
	Kind identity.Kind
	// BoundID, if set, is the only ID that may join.
	BoundID string
	// Uses is how often it can be used to join: 1 to 10,000. Default 1.
	Uses int

	// Grant is what an API token may do.
	Grant identity.Grant

	// Keep, if set, gets the token before it is stored. If it fails no token is made.
	Keep func(identity.Token) error
}

// TokenInfo is what is known about a token; its secret is not.
type TokenInfo struct {
	ID        string             `json:"id"`
	Type      identity.TokenType `json:"type"`
	Name      string             `json:"name,omitempty"`
	Created   time.Time          `json:"created"`
	CreatedBy string             `json:"createdBy,omitempty"`
	Expires   time.Time          `json:"expires"`
	Revoked   *time.Time         `json:"revoked,omitempty"`
	// LastUsed is up to an hour old for API tokens.
	LastUsed *time.Time `json:"lastUsed,omitempty"`

	Kind    identity.Kind `json:"kind,omitempty"`
	BoundID string        `json:"boundId,omitempty"`
	Uses    int           `json:"uses,omitempty"` // allowed
	Used    int           `json:"used,omitempty"`

	Grant identity.Grant `json:"grant,omitzero"`
}

// The results of an audit entry.
const (
	ResultOK     = "ok"
	ResultDenied = "denied"
	ResultFailed = "failed"
)

// Entry is one line of the audit log.
type Entry struct {
	Time time.Time `json:"time"` // set by Record
	// Subject is who, as identity.Subject's Name; "" when nobody knows.
	Subject string `json:"subject,omitempty"`
	// From is the address it came from, without the port.
	From   string          `json:"from,omitempty"`
	Action identity.Action `json:"action"`
	// Target is what it was about: a request, agent, token or CA.
	Target string `json:"target,omitempty"`
	// Result is one of ResultOK, ResultDenied and ResultFailed.
	Result string `json:"result"`
	// Reason says which check failed, when denied.
	Reason identity.Reason `json:"reason,omitempty"`
	// Message says what went wrong, when failed.
	Message string `json:"message,omitempty"`
	// RequestID ties the entry to the log lines of one call.
	RequestID string `json:"requestId,omitempty"`
	// Suppressed counts entries by nobody known that were logged but not kept since
	// the last one that was, so that strangers cannot push others' entries out.
	Suppressed int `json:"suppressed,omitempty"`
}

// AuditQuery selects entries. Zero fields select all.
type AuditQuery struct {
	From, To time.Time // From is included, To is not
	Subject  string
	Target   string
	Action   identity.Action
	Result   string
	// Limit is how many to return: 1 to 1,000, default 100.
	Limit int
	// Cursor is AuditPage.Next of the page before.
	Cursor string
}

// AuditPage is entries, newest first.
type AuditPage struct {
	Entries []Entry `json:"entries"`
	Next    string  `json:"next,omitempty"` // the cursor of the next page; "" after the last
}
