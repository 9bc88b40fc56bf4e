package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
)

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		"pancake://c1/agent/node-1.example":         true,
		"pancake://c-1/user/alice@example.com":      true,
		"pancake://c1/agent/" + rep("a", 128):       true,
		"":                                          false,
		"http://c1/agent/a":                         false,
		"pancake://c1/agent":                        false,
		"pancake://c1/agent/":                       false,
		"pancake://c1/agent/a/b":                    false,
		"pancake://c1/agent/a?x":                    false,
		"pancake://c1/agent/a%2fb":                  false,
		"pancake://c1/agent/.a":                     false,
		"pancake://c1/agent/ü":                      false,
		"pancake://c1/agent/" + rep("a", 129):       false,
		"pancake://c1/robot/a":                      false,
		"pancake://C1/agent/a":                      false,
		"pancake://-c/agent/a":                      false,
		"pancake:///agent/a":                        false,
		"pancake://" + rep("c", 64) + "/agent/a":    false,
		"pancake://c1/agent/a\nlevel=ERROR msg=own": false,
	} {
		got, err := Parse(text)
		if (err == nil) != ok || err != nil && pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("Parse(%q): %v, want ok %v", text, err, ok)
		}
		if ok && got.String() != text {
			t.Errorf("Parse(%q).String() is %q", text, got)
		}
	}
}

func rep(s string, n int) string { return strings.Repeat(s, n) }

func FuzzParse(f *testing.F) {
	f.Add("pancake://c1/agent/node-1")
	f.Add("pancake://c1//")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text)
		if err == nil && got.String() != text {
			t.Errorf("Parse(%q) gives %q", text, got)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("the message for %d bytes has %d", len(text), len(err.Error()))
		}
	})
}

func TestTokens(t *testing.T) {
	fp := FingerprintOf(newCA(t, "c1", now).Cert)
	for _, typ := range []TokenType{JoinToken, APIToken} {
		tok := NewToken(typ, fp)
		back, err := ParseToken(typ, tok.Reveal())
		if err != nil || back != tok {
			t.Errorf("%s: back comes %v, %v", typ, back, err)
		}
		hash := tok.Hash()
		if !back.Matches(hash[:]) || back.Matches(nil) || NewToken(typ, fp).Matches(hash[:]) {
			t.Errorf("%s: the wrong secrets match", typ)
		}
		for _, text := range []string{tok.String(), fmt.Sprintf("%v %+v %#v", tok, tok, tok), fmt.Sprint([]any{tok})} {
			if strings.Contains(text, string(tok.Secret)) {
				t.Errorf("%s is printed with its secret: %s", typ, text)
			}
		}
	}
	good := NewToken(JoinToken, fp).Reveal()
	api := NewToken(APIToken, fp).Reveal()
	for name, tc := range map[string]struct {
		text string
		want Reason
	}{
		"none": {"", NoToken}, "garbage": {"hunter2", Malformed}, "other type": {api, Malformed},
		"cut short": {good[:len(good)-1], Malformed}, "no fingerprint": {good[:strings.LastIndexByte(good, '_')], Malformed},
		"upper case": {strings.ToUpper(good), Malformed}, "line end": {good + "\n", Malformed},
		"line end inside": {good[:24] + "\n" + good[25:], Malformed}, "huge": {rep(good, 1000), Malformed},
		"colons": {good[:len(good)-2] + ":" + good[len(good)-1:], Malformed},
	} {
		_, err := ParseToken(JoinToken, tc.text)
		if ReasonOf(err) != tc.want || pancake.KindOf(err) != pancake.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
		for part := range strings.SplitSeq(tc.text, "_") {
			if len(part) > 5 && err != nil && strings.Contains(err.Error(), part) {
				t.Errorf("%s: the message repeats what was given: %v", name, err)
			}
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(NewToken(JoinToken, Fingerprint{1}).Reveal())
	f.Add(NewToken(APIToken, Fingerprint{}).Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []TokenType{JoinToken, APIToken} {
			tok, err := ParseToken(typ, text)
			if err == nil && tok.Reveal() != text {
				t.Errorf("two ways to write a token: %q", text)
			}
		}
	})
}

func TestFingerprint(t *testing.T) {
	f := FingerprintOf(newCA(t, "c1", now).Cert)
	colons := fmt.Sprintf("% X", f[:])
	for _, text := range []string{f.String(), strings.ReplaceAll(colons, " ", ":")} {
		if got, err := ParseFingerprint(text); err != nil || got != f {
			t.Errorf("ParseFingerprint(%q): %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", f.String()[1:], f.String() + "0", "x" + f.String()[1:], rep(":", 1000)} {
		if _, err := ParseFingerprint(text); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("ParseFingerprint(%q): %v", text, err)
		}
	}
}

func TestSecretIsMasked(t *testing.T) {
	const text = "hunter2"
	s := Secret(text)
	holder := struct {
		A Secret
		B *Secret
		C map[string]Secret
	}{s, &s, map[string]Secret{"key": s}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s, "h", holder)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "s", s, "h", holder)
	b, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(b)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, []Secret{s}) + fmt.Sprintf(verb, holder)
	}
	out += fmt.Errorf("x: %w", errors.New(s.String())).Error()
	for _, leak := range []string{text, fmt.Sprintf("%x", text), fmt.Sprintf("%X", text), "104 117"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q comes out: %s", leak, out)
		}
	}
	if !strings.Contains(out, mask) || string(s) != text || Secret("").String() != "" {
		t.Errorf("mask or text is missing: %s", out)
	}
}

func TestSealer(t *testing.T) {
	ctx := t.Context()
	first, second := NewSealKey(), NewSealKey()
	old := must[*KeySealer](t)(ParseKeySealer(first))
	both := must[*KeySealer](t)(ParseKeySealer("# new one first\n" + second + "\n\n" + first + "\n"))
	other := must[*KeySealer](t)(ParseKeySealer(second))
	sealed := must[[]byte](t)(old.Seal(ctx, []byte("plain text"), []byte("place")))
	if bytes.Contains(sealed, []byte("plain text")) {
		t.Error("sealed text can be read")
	}
	again := must[[]byte](t)(old.Seal(ctx, []byte("plain text"), []byte("place")))
	if bytes.Equal(sealed, again) {
		t.Error("sealing twice gives the same")
	}
	for name, s := range map[string]*KeySealer{"old": old, "both": both} {
		if got, err := s.Open(ctx, sealed, []byte("place")); err != nil || string(got) != "plain text" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	resealed := must[[]byte](t)(both.Seal(ctx, []byte("plain text"), []byte("place")))
	if _, err := other.Open(ctx, resealed, []byte("place")); err != nil {
		t.Errorf("the first key does not seal: %v", err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for name, fn := range map[string]func() ([]byte, error){
		"another key":   func() ([]byte, error) { return other.Open(ctx, sealed, []byte("place")) },
		"another place": func() ([]byte, error) { return old.Open(ctx, sealed, []byte("elsewhere")) },
		"changed":       func() ([]byte, error) { return old.Open(ctx, changed, []byte("place")) },
		"cut short":     func() ([]byte, error) { return old.Open(ctx, sealed[:12], []byte("place")) },
		"empty":         func() ([]byte, error) { return old.Open(ctx, nil, nil) },
	} {
		if _, err := fn(); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []Secret{"", "# nothing\n", "c2hvcnQ=", "hunter2hunter2!", first + first} {
		if _, err := ParseKeySealer(text); pancake.KindOf(err) != pancake.Invalid || text != "" && strings.Contains(err.Error(), string(text)) {
			t.Errorf("%q: %v", string(text), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s, err := ParseKeySealer(NewSealKey())
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := s.Seal(context.Background(), []byte("x"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := s.Open(t.Context(), b, []byte("place")); err == nil {
			t.Error("garbage was opened")
		}
	})
}

func TestAuthorize(t *testing.T) {
	web := Ownership{Group: "web", ReadWrite: []string{"platform"}, ReadOnly: []string{"support"}}
	grant := func(r Role, groups ...string) Grant { return Grant{r, groups} }
	reads, writes := []Action{ActionRead, ActionLogs}, []Action{ActionDeploy, ActionScale, ActionDelete, ActionKill}
	operates := []Action{ActionFreeze, ActionDrain, ActionActivate, ActionForget, ActionTokens, ActionAudit, ActionCA}
	for name, tc := range map[string]struct {
		grant                   Grant
		on                      []Ownership
		reads, writes, operates Reason // "" is allowed
	}{
		"nobody":                    {Grant{}, nil, WrongRole, WrongRole, WrongRole},
		"unknown role":              {grant("root", AllGroups), nil, WrongRole, WrongRole, WrongRole},
		"viewer":                    {grant(Viewer), nil, "", WrongRole, WrongRole},
		"deployer":                  {grant(Deployer), nil, "", "", WrongRole},
		"operator":                  {grant(Operator), nil, "", "", ""},
		"operator without groups":   {grant(Operator), []Ownership{web}, "", "", ""},
		"viewer of the group":       {grant(Viewer, "web"), []Ownership{web}, "", WrongRole, WrongRole},
		"deployer of the group":     {grant(Deployer, "x", "web"), []Ownership{web}, "", "", WrongRole},
		"deployer of readWrite":     {grant(Deployer, "platform"), []Ownership{web}, "", "", WrongRole},
		"deployer of readOnly":      {grant(Deployer, "support"), []Ownership{web}, "", WrongGroup, WrongRole},
		"viewer of another group":   {grant(Viewer, "data"), []Ownership{web}, WrongGroup, WrongRole, WrongRole},
		"deployer of another group": {grant(Deployer, "data"), []Ownership{web}, WrongGroup, WrongGroup, WrongRole},
		"deployer of no group":      {grant(Deployer), []Ownership{web}, WrongGroup, WrongGroup, WrongRole},
		"deployer of all groups":    {grant(Deployer, AllGroups), []Ownership{web}, "", "", WrongRole},
		"owned by nobody":           {grant(Deployer), []Ownership{{}}, "", "", WrongRole},
		"owned by nobody, readOnly": {grant(Deployer), []Ownership{{ReadOnly: []string{"support"}}}, "", "", WrongRole},
		"an empty group is none":    {grant(Deployer, ""), []Ownership{{ReadWrite: []string{""}}}, WrongGroup, WrongGroup, WrongRole},
		"old and new":               {grant(Deployer, "web"), []Ownership{web, {Group: "data"}}, WrongGroup, WrongGroup, WrongRole},
	} {
		for actions, want := range map[*[]Action]Reason{&reads: tc.reads, &writes: tc.writes, &operates: tc.operates} {
			for _, a := range *actions {
				err := Authorize(Subject{"token:x", tc.grant}, a, tc.on...)
				if got := ReasonOf(err); got != want || (err == nil) != (want == "") {
					t.Errorf("%s, %s: %v, want %q", name, a, err, want)
				}
				if err != nil && pancake.KindOf(err) != pancake.Forbidden {
					t.Errorf("%s, %s: kind %s", name, a, pancake.KindOf(err))
				}
			}
		}
	}
	if err := Authorize(Subject{"x", grant(Operator)}, "format-disk"); ReasonOf(err) != WrongRole {
		t.Errorf("an unknown action: %v", err)
	}
}

// A higher role never may less, and more groups never take rights away.
func TestAuthorizeGrows(t *testing.T) {
	groups := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", AllGroups}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		roles := []Role{"", Viewer, Deployer, Operator}
		r := rapid.IntRange(0, 2).Draw(t, "role")
		g := groups.Draw(t, "groups")
		o := Ownership{rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "group"), groups.Draw(t, "rw"), groups.Draw(t, "ro")}
		a := rapid.SampledFrom([]Action{ActionRead, ActionLogs, ActionDeploy, ActionKill, ActionCA}).Draw(t, "action")
		if Authorize(Subject{"x", Grant{roles[r], g}}, a, o) != nil {
			return
		}
		for _, more := range []Grant{{roles[r+1], g}, {roles[r], append([]string{"z"}, g...)}} {
			if err := Authorize(Subject{"x", more}, a, o); err != nil {
				t.Fatalf("%v may, %v may not: %v", g, more, err)
			}
		}
	})
}
