package cloudflare

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/cloudflare/cloudflare-go"

	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/dns/internal/pace"
)

// A few names are asked for one by one; for more, one list of the zone is cheaper.
const fewNames = 2

// maxBatch is how many operations a batch may have with the free plan.
const maxBatch = 200

// records lists the A, AAAA and CNAME records of the keys' names in a zone.
func (p *Provider) records(ctx context.Context, zone string, keys []dns.Key) ([]cloudflare.DNSRecord, error) {
	var wanted []string
	for _, key := range keys {
		wanted = append(wanted, key.Name)
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	queries := []url.Values{{}}
	if len(wanted) <= fewNames {
		queries = nil
		for _, name := range wanted {
			queries = append(queries, url.Values{"name": {name}})
		}
	}
	var out []cloudflare.DNSRecord
	for _, q := range queries {
		some, err := list[cloudflare.DNSRecord](ctx, p, "/zones/"+zone+"/dns_records", q, 500)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	// Whatever the filter did: only what was asked for counts.
	return slices.DeleteFunc(out, func(r cloudflare.DNSRecord) bool {
		_, found := slices.BinarySearch(wanted, dns.Clean(r.Name))
		return !found || !slices.Contains([]string{dns.A, dns.AAAA, dns.CNAME}, r.Type)
	}), nil
}

// recordSet picks the set with a key.
func recordSet(key dns.Key, records []cloudflare.DNSRecord) dns.Set {
	set := dns.Set{Key: key}
	for _, r := range records {
		if dns.Clean(r.Name) != key.Name || r.Type != key.Type {
			continue
		}
		set.TTL = cmp.Or(set.TTL, r.TTL)
		set.Members = append(set.Members, dns.Member{
			Value: value(r.Type, r.Content), On: true, Owner: dns.Owner(r.Comment),
			Proxied: r.Proxied != nil && *r.Proxied, ID: r.ID,
		})
	}
	slices.SortFunc(set.Members, func(a, b dns.Member) int { return cmp.Compare(a.Value, b.Value) })
	return set
}

// value brings a record's content into the form of dns.Member.
func value(typ, content string) string {
	if typ == dns.CNAME {
		return dns.Clean(content)
	}
	if addr, err := netip.ParseAddr(content); err == nil {
		return addr.String()
	}
	return content
}

// post creates a record, and patch changes the fields that it has.
type post struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Content string   `json:"content"`
	TTL     int      `json:"ttl"`
	Proxied bool     `json:"proxied"`
	Comment string   `json:"comment"`
	Tags    []string `json:"tags,omitempty"`
}

type patch struct {
	ID      string `json:"id"`
	Content string `json:"content,omitempty"`
	Comment string `json:"comment,omitempty"`
}

type remove struct {
	ID string `json:"id"`
}

type batch struct {
	Deletes []remove `json:"deletes,omitempty"`
	Patches []patch  `json:"patches,omitempty"`
	Posts   []post   `json:"posts,omitempty"`
}

func (b batch) size() int { return len(b.Deletes) + len(b.Patches) + len(b.Posts) }

// applyRecords makes the changes of one zone.
func (p *Provider) applyRecords(ctx context.Context, zone string, changes []dns.Change) error {
	var keys []dns.Key
	for _, c := range changes {
		keys = append(keys, c.After.Key)
	}
	records, err := p.records(ctx, zone, keys)
	if err != nil {
		return err
	}
	var batches []batch
	var problems []error
	for _, c := range changes {
		b, err := plan(c, records)
		if err != nil {
			problems = append(problems, err)
		} else if b.size() > 0 {
			batches = append(batches, b)
		}
	}
	return pace.Join(append(problems, pace.Isolate(batches, func(some []batch) error {
		var all batch
		for _, b := range some {
			all.Patches = append(all.Patches, b.Patches...)
			all.Posts = append(all.Posts, b.Posts...)
			all.Deletes = append(all.Deletes, b.Deletes...)
		}
		return p.send(ctx, zone, all)
	}))...)
}

// send makes what is new first, and removes what is old when that is done: within
// one batch Cloudflare would do it the other way round.
func (p *Provider) send(ctx context.Context, zone string, b batch) error {
	for b.size() > 0 {
		var part batch
		room := maxBatch
		part.Posts, b.Posts = cut(b.Posts, &room)
		part.Patches, b.Patches = cut(b.Patches, &room)
		if part.size() == 0 {
			part.Deletes, b.Deletes = cut(b.Deletes, &room)
		}
		if _, err := p.call(ctx, http.MethodPost, "/zones/"+zone+"/dns_records/batch", part); err != nil {
			return err
		}
	}
	return nil
}

func cut[T any](from []T, room *int) (part, rest []T) {
	n := min(len(from), *room)
	*room -= n
	return from[:n], from[n:]
}

// plan finds the operations for one change, from the records as they are now. What
// is done already is left out; what is neither as before nor as it should be is a conflict.
func plan(c dns.Change, records []cloudflare.DNSRecord) (batch, error) {
	key := c.After.Key
	now := recordSet(key, records)
	if err := compare(c, now); err != nil {
		return batch{}, err
	}
	var b batch
	edits := c.Edits()
	for _, m := range edits.Mark {
		if i := byID(records, now, m.Value); i >= 0 && dns.Owner(records[i].Comment) != m.Owner {
			b.Patches = append(b.Patches, patch{ID: records[i].ID, Comment: marked(records[i].Comment, m.Owner)})
		}
	}
	old := slices.DeleteFunc(edits.Remove, func(m dns.Member) bool { return byID(records, now, m.Value) < 0 })
	for _, m := range edits.Create {
		if byID(records, now, m.Value) >= 0 {
			continue
		}
		// One of ours that goes is made into the one that comes: it keeps all the rest.
		if i := slices.IndexFunc(old, func(o dns.Member) bool { return o.Owner == m.Owner && o.Proxied == m.Proxied }); i >= 0 {
			at, _ := now.Find(old[i].Value)
			b.Patches = append(b.Patches, patch{ID: at.ID, Content: m.Value})
			old = slices.Delete(old, i, i+1)
			continue
		}
		b.Posts = append(b.Posts, post{
			Type: key.Type, Name: key.Name, Content: m.Value, TTL: cmp.Or(c.After.TTL, 1), Proxied: m.Proxied,
			Comment: dns.Mark(m.Owner), Tags: siblingTags(records, now, m.Owner),
		})
	}
	for _, m := range old {
		at, _ := now.Find(m.Value)
		b.Deletes = append(b.Deletes, remove{at.ID})
	}
	return b, nil
}

// compare checks that every value is either as it was before or as it should be.
func compare(c dns.Change, now dns.Set) error {
	for _, set := range []dns.Set{c.Before, c.After, now} {
		for _, m := range set.Members {
			is, exists := now.Find(m.Value)
			was, existed := c.Before.Find(m.Value)
			want, wanted := c.After.Find(m.Value)
			asBefore := exists == existed && is.Owner == was.Owner
			asAfter := exists == wanted && is.Owner == want.Owner
			if !asBefore && !asAfter {
				return conflict("%s: somebody has changed %s since it was read", now.Key, m.Value)
			}
		}
	}
	return nil
}

// byID finds the record with a value of a set, -1 if there is none.
func byID(records []cloudflare.DNSRecord, set dns.Set, value string) int {
	m, ok := set.Find(value)
	if !ok {
		return -1
	}
	return slices.IndexFunc(records, func(r cloudflare.DNSRecord) bool { return r.ID == m.ID })
}

// siblingTags are the tags that the owner's other records of the set have.
func siblingTags(records []cloudflare.DNSRecord, set dns.Set, owner string) []string {
	for _, m := range set.Members {
		if i := byID(records, set, m.Value); m.Owner == owner && i >= 0 && len(records[i].Tags) > 0 {
			return records[i].Tags
		}
	}
	return nil
}

// marked puts a mark into a text that people wrote, in the place of another mark if there is one.
func marked(text, owner string) string {
	if old := dns.Owner(text); old != "" {
		return strings.Replace(text, dns.Mark(old), dns.Mark(owner), 1)
	}
	return strings.TrimSpace(text + " " + dns.Mark(owner))
}
