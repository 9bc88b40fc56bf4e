package cloudflare

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBatch is how many operations one batch of a zone on the free plan may have.
const maxBatch = 200

// paginate cuts a page out of a list.
func paginate[T any](q url.Values, all []T, normal, most int) ([]T, *page) {
	number, _ := strconv.Atoi(q.Get("page"))
	per, _ := strconv.Atoi(q.Get("per_page"))
	number, per = max(number, 1), min(cmp.Or(max(per, 0), normal), most)
	from := min((number-1)*per, len(all))
	part := all[from:min(from+per, len(all))]
	return slices.Concat([]T{}, part), &page{
		Page: number, PerPage: per, Count: len(part), TotalCount: len(all), TotalPages: (len(all) + per - 1) / per,
	}
}

func (f *Fake) verify(call) (any, *page, *problem) {
	return map[string]string{"id": "token", "status": "active"}, nil, nil
}

func (f *Fake) listAccounts(c call) (any, *page, *problem) {
	list, p := paginate(c.URL.Query(), []Account{account}, 20, 50)
	return list, p, nil
}

func (f *Fake) listZones(c call) (any, *page, *problem) {
	name := c.URL.Query().Get("name")
	var out []Zone
	for _, z := range f.zones {
		if (name == "" || z.Name == name) && c.token.sees(z.Name) {
			out = append(out, z)
		}
	}
	list, p := paginate(c.URL.Query(), out, 20, 50)
	return list, p, nil
}

func (f *Fake) getZone(c call) (any, *page, *problem) { return c.zone, nil, nil }

func (f *Fake) listRecords(c call) (any, *page, *problem) {
	q := c.URL.Query()
	is := func(key, have string) bool { return !q.Has(key) || strings.EqualFold(q.Get(key), have) }
	var out []Record
	for _, r := range f.past.Before(time.Duration(f.config.ListLag) * time.Millisecond) {
		if r.zone == c.zone.ID && is("name", r.Name) && is("type", r.Type) && is("content", r.Content) &&
			is("comment", r.Comment) && is("proxied", strconv.FormatBool(r.Proxied)) {
			out = append(out, r)
		}
	}
	list, p := paginate(q, out, 100, 5000)
	return list, p, nil
}

func (f *Fake) find(records []Record, c call, id string) (int, *problem) {
	i := slices.IndexFunc(records, func(r Record) bool { return r.zone == c.zone.ID && r.ID == id })
	if i < 0 {
		return i, fail(http.StatusNotFound, 81044, "Record does not exist.")
	}
	return i, nil
}

func (f *Fake) getRecord(c call) (any, *page, *problem) {
	i, bad := f.find(f.records, c, c.PathValue("id"))
	if bad != nil {
		return nil, nil, bad
	}
	return f.records[i], nil, nil
}

func (f *Fake) createRecord(c call) (any, *page, *problem) {
	var r Record
	if bad := decode(c.Request, &r); bad != nil {
		return nil, nil, bad
	}
	records, bad := f.insert(f.records, c.zone, r)
	if bad != nil {
		return nil, nil, bad
	}
	f.set(records)
	return records[len(records)-1], nil, nil
}

func (f *Fake) patchRecord(c call) (any, *page, *problem) {
	var patch map[string]json.RawMessage
	if bad := decode(c.Request, &patch); bad != nil {
		return nil, nil, bad
	}
	return f.change(c, func(records []Record) ([]Record, int, *problem) {
		return f.patch(records, c, c.PathValue("id"), patch)
	})
}

func (f *Fake) putRecord(c call) (any, *page, *problem) {
	var r Record
	if bad := decode(c.Request, &r); bad != nil {
		return nil, nil, bad
	}
	return f.change(c, func(records []Record) ([]Record, int, *problem) {
		r.ID = c.PathValue("id")
		return f.put(records, c, r)
	})
}

func (f *Fake) change(_ call, do func([]Record) ([]Record, int, *problem)) (any, *page, *problem) {
	records, i, bad := do(f.records)
	if bad != nil {
		return nil, nil, bad
	}
	f.set(records)
	return records[i], nil, nil
}

func (f *Fake) deleteRecord(c call) (any, *page, *problem) {
	records, bad := f.remove(f.records, c, c.PathValue("id"))
	if bad != nil {
		return nil, nil, bad
	}
	f.set(records)
	return map[string]string{"id": c.PathValue("id")}, nil, nil
}

// batch does all or nothing, in the order deletes, patches, puts, posts.
func (f *Fake) batch(c call) (any, *page, *problem) {
	var in struct {
		Deletes []struct {
			ID string `json:"id"`
		} `json:"deletes"`
		Patches []map[string]json.RawMessage `json:"patches"`
		Puts    []Record                     `json:"puts"`
		Posts   []Record                     `json:"posts"`
	}
	if bad := decode(c.Request, &in); bad != nil {
		return nil, nil, bad
	}
	if n := len(in.Deletes) + len(in.Patches) + len(in.Puts) + len(in.Posts); n > maxBatch || n == 0 {
		return nil, nil, fail(http.StatusBadRequest, 81068, "A batch must have 1 to %d operations.", maxBatch)
	}
	out := map[string][]any{"deletes": {}, "patches": {}, "puts": {}, "posts": {}}
	records, i, bad := f.records, 0, (*problem)(nil)
	for _, d := range in.Deletes {
		if records, bad = f.remove(records, c, d.ID); bad != nil {
			return nil, nil, bad
		}
		out["deletes"] = append(out["deletes"], d)
	}
	for _, p := range in.Patches {
		var id string
		_ = json.Unmarshal(p["id"], &id)
		if records, i, bad = f.patch(records, c, id, p); bad != nil {
			return nil, nil, bad
		}
		out["patches"] = append(out["patches"], records[i])
	}
	for _, p := range in.Puts {
		if records, i, bad = f.put(records, c, p); bad != nil {
			return nil, nil, bad
		}
		out["puts"] = append(out["puts"], records[i])
	}
	for _, p := range in.Posts {
		if records, bad = f.insert(records, c.zone, p); bad != nil {
			return nil, nil, bad
		}
		out["posts"] = append(out["posts"], records[len(records)-1])
	}
	f.set(records)
	return out, nil, nil
}

// insert, patch, put and remove return a changed copy of the records.

func (f *Fake) insert(records []Record, zone *Zone, r Record) ([]Record, *problem) {
	r.ID, r.zone, r.CreatedOn, r.ModifiedOn = f.id(), zone.ID, time.Now().UTC(), time.Now().UTC()
	if bad := complete(&r, zone); bad != nil {
		return nil, bad
	}
	if bad := clash(records, r); bad != nil {
		return nil, bad
	}
	return append(slices.Clone(records), r), nil
}

func (f *Fake) patch(records []Record, c call, id string, patch map[string]json.RawMessage) ([]Record, int, *problem) {
	i, bad := f.find(records, c, id)
	if bad != nil {
		return nil, 0, bad
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, 0, fail(http.StatusBadRequest, 9207, "Malformed JSON in request body")
	}
	r := records[i]
	r.Tags = slices.Clone(r.Tags)
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, 0, fail(http.StatusBadRequest, 9207, "Malformed JSON in request body")
	}
	return f.replace(records, c, i, r)
}

func (f *Fake) put(records []Record, c call, r Record) ([]Record, int, *problem) {
	i, bad := f.find(records, c, r.ID)
	if bad != nil {
		return nil, 0, bad
	}
	return f.replace(records, c, i, r)
}

func (f *Fake) replace(records []Record, c call, i int, r Record) ([]Record, int, *problem) {
	r.ID, r.zone, r.CreatedOn, r.ModifiedOn = records[i].ID, c.zone.ID, records[i].CreatedOn, time.Now().UTC()
	if bad := complete(&r, c.zone); bad != nil {
		return nil, 0, bad
	}
	if bad := clash(slices.Delete(slices.Clone(records), i, i+1), r); bad != nil {
		return nil, 0, bad
	}
	records = slices.Clone(records)
	records[i] = r
	return records, i, nil
}

func (f *Fake) remove(records []Record, c call, id string) ([]Record, *problem) {
	i, bad := f.find(records, c, id)
	if bad != nil {
		return nil, bad
	}
	return slices.Delete(slices.Clone(records), i, i+1), nil
}

// complete fills in what may be left out, and checks the rest.
func complete(r *Record, zone *Zone) *problem {
	r.Name = strings.ToLower(strings.TrimSuffix(r.Name, "."))
	if r.Name == "@" {
		r.Name = zone.Name
	}
	if r.Name != zone.Name && !strings.HasSuffix(r.Name, "."+zone.Name) {
		r.Name += "." + zone.Name // the API appends it
	}
	r.TTL = cmp.Or(r.TTL, 1)
	r.Proxiable = slices.Contains([]string{"A", "AAAA", "CNAME"}, r.Type)
	if r.Proxied {
		r.TTL = 1
	}
	if r.Tags == nil {
		r.Tags = []string{}
	}
	if r.Settings == nil {
		r.Settings = json.RawMessage("{}")
	}
	if r.Meta == nil {
		r.Meta = json.RawMessage("{}")
	}
	addr, err := netip.ParseAddr(r.Content)
	switch {
	case r.Type == "" || r.Content == "" && r.Data == nil:
		return fail(http.StatusBadRequest, 9000, "DNS record type and content are required.")
	case r.Type == "A" && (err != nil || !addr.Is4()):
		return fail(http.StatusBadRequest, 9005, "Content for A record must be a valid IPv4 address.")
	case r.Type == "AAAA" && (err != nil || addr.Is4()):
		return fail(http.StatusBadRequest, 9006, "Content for AAAA record must be a valid IPv6 address.")
	case r.Type == "CNAME" && err == nil:
		return fail(http.StatusBadRequest, 9007, "Content for CNAME record is invalid.")
	case r.TTL != 1 && (r.TTL < 60 || r.TTL > 86400):
		return fail(http.StatusBadRequest, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
	case r.Proxied && !r.Proxiable:
		return fail(http.StatusBadRequest, 9004, "This record type cannot be proxied.")
	case len(r.Comment) > 500:
		return fail(http.StatusBadRequest, 9313, "Comment is too long.")
	}
	if r.Type == "AAAA" {
		r.Content = addr.String()
	}
	return nil
}

// clash checks a record against the others of its name.
func clash(records []Record, r Record) *problem {
	host := []string{"A", "AAAA", "CNAME"}
	for _, o := range records {
		switch {
		case o.Name != r.Name || o.zone != r.zone:
		case o.Type == r.Type && strings.EqualFold(o.Content, r.Content):
			return fail(http.StatusBadRequest, 81058, "An identical record already exists.")
		case r.Type == "CNAME" && slices.Contains(host, o.Type):
			return fail(http.StatusBadRequest, 81053, "An A, AAAA, or CNAME record with that host already exists.")
		case o.Type == "CNAME" && slices.Contains(host, r.Type):
			return fail(http.StatusBadRequest, 81054, "A CNAME record with that host already exists.")
		}
	}
	return nil
}

func decode(r *http.Request, into any) *problem {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return fail(http.StatusBadRequest, 9207, "Malformed JSON in request body")
	}
	return nil
}
