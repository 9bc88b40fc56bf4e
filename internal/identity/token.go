package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"strings"

	"github.com/pancake-stack/pancake"
)

// TokenType is what a token is good for. Its value is the prefix that secret
// scanners look for.
type TokenType string

// The token types.
const (
	JoinToken TokenType = "pkj" // pkj_<id>_<secret>_<CA fingerprint>: gets a first certificate
	APIToken  TokenType = "pka" // pka_<id>_<secret>: calls the HTTP API
)

// Bytes of chance in a token. Both are whole groups of five, so that there is
// one way to write each.
const (
	tokenID     = 10
	tokenSecret = 20 // 160 bits: nobody guesses it, so one round of SHA-256 is enough to store it
)

// maxToken is longer than any token; longer text is not looked at.
const maxToken = 256

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Token is a bearer credential. Its ID may be shown, its Secret not: printing a
// Token masks it.
type Token struct {
	Type   TokenType
	ID     string
	Secret Secret
	// Fingerprint is of the CA that a joining part shall trust. Join tokens only.
	Fingerprint Fingerprint
}

// Fingerprint is the SHA-256 of a CA certificate's DER.
type Fingerprint [sha256.Size]byte

// String is the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint reads 64 hexadecimal digits, with or without colons between
// pairs, as openssl prints them. It fails with Invalid.
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	digits := strings.ReplaceAll(text, ":", "")
	if len(text) > 3*len(f) || len(digits) != hex.EncodedLen(len(f)) {
		return f, pancake.Errorf(pancake.Invalid, "a CA fingerprint has %d hexadecimal digits", hex.EncodedLen(len(f)))
	}
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, pancake.Errorf(pancake.Invalid, "a CA fingerprint has only hexadecimal digits")
	}
	return f, nil
}

// NewToken makes a token with a fresh id and secret. The fingerprint is for join
// tokens.
func NewToken(typ TokenType, ca Fingerprint) Token {
	t := Token{Type: typ, ID: random(tokenID), Secret: Secret(random(tokenSecret))}
	if typ == JoinToken {
		t.Fingerprint = ca
	}
	return t
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base32Lower.EncodeToString(b)
}

// Reveal is the token's text, with its secret.
func (t Token) Reveal() string {
	text := string(t.Type) + "_" + t.ID + "_" + string(t.Secret)
	if t.Type == JoinToken {
		text += "_" + t.Fingerprint.String()
	}
	return text
}

// String is the token's text with the secret masked.
func (t Token) String() string { return string(t.Type) + "_" + t.ID + "_" + mask }

// Hash is what is stored of the secret.
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.Secret)) }

// Matches reports whether the token's secret is the one that hash was made of,
// in a time that does not depend on how much of it is right.
func (t Token) Matches(hash []byte) bool {
	own := t.Hash()
	return subtle.ConstantTimeCompare(own[:], hash) == 1
}

// ParseToken reads a token of the wanted type. Errors are Denied, with the reason
// NoToken or Malformed, and never repeat what was given.
func ParseToken(want TokenType, text string) (Token, error) {
	if text == "" {
		return Token{}, Deny(NoToken, "no %s was given", want.name())
	}
	malformed := func(problem string) (Token, error) {
		return Token{}, Deny(Malformed, "this is not %s of Pancake: %s", want.article(), problem)
	}
	if len(text) > maxToken {
		return malformed("it is too long")
	}
	parts := strings.Split(text, "_")
	switch typ := TokenType(parts[0]); {
	case typ != JoinToken && typ != APIToken:
		return malformed("it does not begin with " + string(want) + "_")
	case typ != want:
		return malformed("it is " + typ.article())
	}
	fields := 3
	if want == JoinToken {
		fields = 4
	}
	if len(parts) != fields {
		return malformed("a part is missing, or it was cut short")
	}
	if !encodes(parts[1], tokenID) || !encodes(parts[2], tokenSecret) {
		return malformed("a part has the wrong length or characters")
	}
	t := Token{Type: want, ID: parts[1], Secret: Secret(parts[2])}
	if want == JoinToken {
		f, err := ParseFingerprint(parts[3])
		if err != nil || f.String() != parts[3] {
			return malformed("its last part is not the fingerprint of a CA")
		}
		t.Fingerprint = f
	}
	return t, nil
}

// encodes reports whether text is the one way to write n bytes. The decoder would
// skip line ends, so the length is checked first.
func encodes(text string, n int) bool {
	if len(text) != base32Lower.EncodedLen(n) {
		return false
	}
	b, err := base32Lower.DecodeString(text)
	return err == nil && len(b) == n
}

func (t TokenType) name() string {
	if t == JoinToken {
		return "join token"
	}
	return "API token"
}

func (t TokenType) article() string {
	if t == JoinToken {
		return "a join token"
	}
	return "an API token"
}
