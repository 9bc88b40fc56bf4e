package authority

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
)

func (r *rig) record(a *Authority, e Entry) {
	r.t.Helper()
	if err := a.Record(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

// targets reads all pages.
func targets(t *testing.T, a *Authority, q AuditQuery) string {
	t.Helper()
	var out []string
	for range 100 {
		p, err := a.Audit(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			out = append(out, e.Target)
		}
		if q.Cursor = p.Next; p.Next == "" {
			return strings.Join(out, " ")
		}
	}
	t.Fatal("the pages do not end")
	return ""
}

func TestAudit(t *testing.T) {
	r := newRig(t)
	var log bytes.Buffer
	cfg := r.config()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	a, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	start := r.clock.now()
	for i := range 6 {
		e := Entry{Subject: "token:even", From: "127.0.0.1", Action: identity.ActionDeploy, Target: fmt.Sprint("r", i), Result: ResultOK, RequestID: "q"}
		if i%2 == 1 {
			e.Subject, e.Action, e.Result, e.Reason = "token:odd", identity.ActionScale, ResultDenied, identity.WrongRole
		}
		r.record(a, e)
		r.clock.add(time.Minute)
	}
	b := r.open() // others read the same
	for name, tc := range map[string]struct {
		q    AuditQuery
		want string
	}{
		"all":             {AuditQuery{}, "r5 r4 r3 r2 r1 r0"},
		"pages of two":    {AuditQuery{Limit: 2}, "r5 r4 r3 r2 r1 r0"},
		"pages of four":   {AuditQuery{Limit: 4}, "r5 r4 r3 r2 r1 r0"},
		"subject, paged":  {AuditQuery{Subject: "token:odd", Limit: 1}, "r5 r3 r1"},
		"target":          {AuditQuery{Target: "r4"}, "r4"},
		"action":          {AuditQuery{Action: identity.ActionScale}, "r5 r3 r1"},
		"result":          {AuditQuery{Result: ResultOK}, "r4 r2 r0"},
		"from":            {AuditQuery{From: start.Add(4 * time.Minute)}, "r5 r4"},
		"to":              {AuditQuery{To: start.Add(2 * time.Minute)}, "r1 r0"},
		"between, paged":  {AuditQuery{From: start.Add(time.Minute), To: start.Add(4 * time.Minute), Limit: 2}, "r3 r2 r1"},
		"nothing":         {AuditQuery{From: start.Add(time.Hour)}, ""},
		"turned around":   {AuditQuery{From: start.Add(3 * time.Minute), To: start}, ""},
		"far away":        {AuditQuery{From: time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, "r5 r4 r3 r2 r1 r0"},
		"somebody else's": {AuditQuery{Subject: "token:eve"}, ""},
	} {
		if got := targets(t, b, tc.q); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	for name, q := range map[string]AuditQuery{"limit": {Limit: 1001}, "negative": {Limit: -1}, "cursor": {Cursor: "../tokens/"}, "long cursor": {Cursor: strings.Repeat("1", 65)}} {
		if _, err := b.Audit(t.Context(), q); pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, want := range []string{"msg=audit", "subject=token:odd", "from=127.0.0.1", "action=scale", "target=r1", "result=denied", "reason=wrong_role", "request_id=q", "level=WARN", "level=INFO"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestAuditIsBounded(t *testing.T) {
	r := newRig(t)
	cfg := r.config()
	cfg.AuditMax, cfg.AuditAge = 5, 24*time.Hour
	a, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		r.record(a, Entry{Subject: "s", Target: fmt.Sprint(i), Result: ResultOK})
		r.clock.add(time.Hour)
	}
	for _, tc := range []struct {
		wait time.Duration
		want string
	}{{0, "7 6 5 4 3"}, {18 * time.Hour, "7 6 5 4 3"}, {2*time.Hour + time.Minute, "7 6 5"}, {48 * time.Hour, ""}} {
		r.clock.add(tc.wait)
		if err := a.trimAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := targets(t, a, AuditQuery{}); got != tc.want {
			t.Errorf("%q is left, want %q", got, tc.want)
		}
	}
	r.record(a, Entry{Subject: "s", Target: strings.Repeat("ü", 5000), Result: ResultOK})
	if got := targets(t, a, AuditQuery{}); len(got) > maxField+3 || !utf8.ValidString(got) {
		t.Errorf("kept %d bytes", len(got))
	}
}

// Strangers cannot push out what is known of others.
func TestStrangersDoNotFloodTheAudit(t *testing.T) {
	r := newRig(t)
	a := r.open()
	stranger := func(from string) {
		r.record(a, Entry{From: from, Target: from, Action: identity.ActionDeploy, Result: ResultDenied, Reason: identity.UnknownToken})
	}
	for range 50 {
		stranger("a")
	}
	stranger("b")
	if got := targets(t, a, AuditQuery{}); got != "b a" && got != "a b" {
		t.Errorf("kept %q", got)
	}
	for i := range 200 {
		stranger(fmt.Sprint("c", i))
	}
	r.record(a, Entry{Subject: "s", Target: "known", Result: ResultOK})
	if n := len(strings.Fields(targets(t, a, AuditQuery{}))); n != strangersMax+1 {
		t.Errorf("kept %d, want %d", n, strangersMax+1)
	}
	r.clock.add(time.Minute)
	stranger("late")
	p, err := a.Audit(context.Background(), AuditQuery{Target: "late"})
	if err != nil || len(p.Entries) != 1 || p.Entries[0].Suppressed != 142 { // of the 200, 58 were kept
		t.Errorf("%+v, %v", p, err)
	}
}
