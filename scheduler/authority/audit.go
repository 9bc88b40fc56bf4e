package authority

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/pancake-stack/pancake"
)

// The bounds of the audit log.
const (
	maxField     = 256 // characters of a field that callers choose
	maxPage      = 1000
	defaultPage  = 100
	strangersMax = 60 // entries a minute by nobody known
)

// Record keeps an entry in the audit log and logs it. It sets the time. Entries by
// nobody known are logged all, but kept only once a minute per address and reason.
func (a *Authority) Record(ctx context.Context, e Entry) error {
	e.Time = a.now()
	for _, field := range []*string{&e.Subject, &e.From, &e.Target, &e.Message, &e.RequestID, (*string)(&e.Action)} {
		*field = clip(*field)
	}
	level := slog.LevelInfo
	if e.Result != ResultOK {
		level = slog.LevelWarn
	}
	a.log.Log(ctx, level, "audit", "subject", e.Subject, "from", e.From, "action", string(e.Action), "target", e.Target,
		"result", e.Result, "reason", string(e.Reason), "message", e.Message, "request_id", e.RequestID)
	if e.Subject == "" {
		keep, suppressed := a.flood.admit(e.Time, e.From+" "+string(e.Reason))
		if !keep {
			return nil
		}
		e.Suppressed = suppressed
	}
	tie := make([]byte, 4)
	_, _ = rand.Read(tie) // never fails
	d := document[Entry]{key: audit + order(e.Time) + "-" + hex.EncodeToString(tie)}
	put, err := d.put(e)
	if err != nil {
		return err
	}
	_, err = a.commit(ctx, nil, put)
	return err
}

// clip bounds text that strangers may have chosen, without cutting a character.
func clip(s string) string {
	if len(s) <= maxField {
		return s
	}
	return strings.ToValidUTF8(s[:maxField], "") + "…"
}

// order is the part of a key that sorts the newest first.
func order(t time.Time) string { return fmt.Sprintf("%019d", math.MaxInt64-nanos(t)) }

// nanos is t in Unix nanoseconds, and the nearest there is for years beyond 1970 to 2262.
func nanos(t time.Time) int64 {
	switch {
	case t.Unix() < 0:
		return 0
	case t.Unix() >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Audit reads the audit log, newest first. It fails with Invalid for a limit or
// cursor that cannot be.
func (a *Authority) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	limit := cmp.Or(q.Limit, defaultPage)
	if limit < 1 || limit > maxPage {
		return AuditPage{}, pancake.Errorf(pancake.Invalid, "a page of the audit log has 1 to %d entries, not %d", maxPage, limit)
	}
	from, end := audit, clientv3.GetPrefixRangeEnd(audit)
	if !q.To.IsZero() {
		from = audit + order(q.To) + "~" // behind all of that moment
	}
	if !q.From.IsZero() {
		end = audit + order(q.From) + "~"
	}
	if q.Cursor != "" {
		if len(q.Cursor) > 64 || strings.Trim(q.Cursor, "0123456789abcdef-") != "" {
			return AuditPage{}, pancake.Errorf(pancake.Invalid, "the cursor is not one that a page of the audit log ended with")
		}
		from = max(from, audit+q.Cursor+"\x00")
	}
	out := AuditPage{Entries: []Entry{}}
	if from >= end {
		return out, nil
	}
	last := ""
	err := list(ctx, a, from, end, func(d document[Entry]) bool {
		if !q.matches(d.value) {
			return true
		}
		if len(out.Entries) == limit {
			out.Next = strings.TrimPrefix(last, audit)
			return false
		}
		out.Entries, last = append(out.Entries, d.value), d.key
		return true
	})
	return out, err
}

func (q AuditQuery) matches(e Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return is(q.Subject, e.Subject) && is(q.Target, e.Target) && is(string(q.Action), string(e.Action)) && is(q.Result, e.Result)
}

// trimAudit forgets what is too old or too much.
func (a *Authority) trimAudit(ctx context.Context) error {
	end := clientv3.GetPrefixRangeEnd(audit)
	cut := audit + order(a.now().Add(-a.auditAge))
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	resp, err := a.client.Get(call, audit, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(int64(a.auditMax)+1))
	if err != nil {
		return unavailable("read", audit, err)
	}
	if len(resp.Kvs) > a.auditMax {
		cut = min(cut, string(resp.Kvs[a.auditMax].Key))
	}
	if _, err := a.client.Delete(call, cut, clientv3.WithRange(end)); err != nil {
		return unavailable("trim", audit, err)
	}
	return nil
}

// flood decides which entries by nobody known are kept.
type flood struct {
	mu         sync.Mutex
	since      time.Time
	seen       map[string]bool // in this minute; at most strangersMax
	suppressed int
}

// admit reports whether to keep an entry, and how many were not kept since the
// last one that was.
func (f *flood) admit(now time.Time, key string) (bool, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if age := now.Sub(f.since); age >= time.Minute || age < 0 || f.seen == nil {
		f.since, f.seen = now, map[string]bool{}
	}
	if f.seen[key] || len(f.seen) >= strangersMax {
		f.suppressed++
		return false, 0
	}
	f.seen[key] = true
	n := f.suppressed
	f.suppressed = 0
	return true, n
}
