package identity

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must not be printed: with fmt, slog, encoding/json and
// anything that uses MarshalText it comes out as "***", or as nothing when it is
// empty. Only as the key of a map encoding/json does not mask it. string(s) is the
// text.
type Secret string

// mask is what a secret looks like.
const mask = "***"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format prints the mask whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText masks the secret, also in JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue masks the secret in logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
