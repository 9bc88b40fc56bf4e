package cloudflare_test

import (
	"slices"
	"strings"
	"testing"

	sdk "github.com/cloudflare/cloudflare-go"

	"github.com/pancake-stack/pancake/test/fakecloud/cloudflare"
	"github.com/pancake-stack/pancake/test/fakecloud/contract"
)

// The fake is held to what Cloudflare's own client expects, with the API's codes.
func TestAPI(t *testing.T) {
	control, ready := start(t)
	api, err := sdk.NewWithAPIToken(token, sdk.BaseURL(ready.HTTP+"/client/v4"), sdk.UsingRetryPolicy(0, 0, 0), sdk.UsingRateLimit(1000))
	if err != nil {
		t.Fatal(err)
	}
	id, err := api.ZoneIDByName(zone)
	if err != nil {
		t.Fatal(err)
	}
	rc, ctx := sdk.ZoneIdentifier(id), t.Context()
	create := func(typ, name, content string, ttl int) (sdk.DNSRecord, error) {
		return api.CreateDNSRecord(ctx, rc, sdk.CreateDNSRecordParams{Type: typ, Name: name, Content: content, TTL: ttl, Comment: "c", Tags: []string{"a:b"}})
	}
	r, err := create("A", "www."+zone, "192.0.2.1", 120)
	if err != nil || r.ID == "" || r.TTL != 120 {
		t.Fatalf("create: %v %+v", err, r)
	}
	for _, tt := range []struct {
		typ, name, content string
		ttl                int
		want               string
	}{
		{"A", "www", "192.0.2.1", 120, "81058"},
		{"CNAME", "www", "a.example.net", 120, "81053"},
		{"A", "x", "nonsense", 120, "9005"},
		{"AAAA", "x", "192.0.2.1", 120, "9006"},
		{"A", "x", "192.0.2.1", 7, "9021"},
	} {
		if _, err := create(tt.typ, tt.name+"."+zone, tt.content, tt.ttl); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("create %+v: %v", tt, err)
		}
	}
	r, err = api.UpdateDNSRecord(ctx, rc, sdk.UpdateDNSRecordParams{ID: r.ID, Content: "192.0.2.2", Tags: []string{"c:d"}})
	if err != nil || r.Content != "192.0.2.2" || r.TTL != 120 || r.Comment != "c" || !slices.Equal(r.Tags, []string{"c:d"}) {
		t.Errorf("patch: %v %+v", err, r)
	}
	put, err := api.Raw(ctx, "PUT", "/zones/"+id+"/dns_records/"+r.ID, map[string]any{"type": "A", "name": r.Name, "content": "192.0.2.3"}, nil)
	if err != nil || !strings.Contains(string(put.Result), `"ttl":1,`) {
		t.Errorf("put: %v %s", err, put.Result)
	}
	if err := api.DeleteDNSRecord(ctx, rc, r.ID); err != nil {
		t.Error(err)
	}
	if err := api.DeleteDNSRecord(ctx, rc, r.ID); err == nil || !strings.Contains(err.Error(), "81044") {
		t.Errorf("delete a second time: %v", err)
	}
	// A batch does all or nothing.
	_, err = api.Raw(ctx, "POST", "/zones/"+id+"/dns_records/batch", map[string]any{
		"posts": []any{
			map[string]any{"type": "A", "name": "b." + zone, "content": "192.0.2.1"}, map[string]any{"type": "A", "name": "b." + zone, "content": "192.0.2.1"},
		},
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "81058") {
		t.Errorf("batch: %v", err)
	}
	if n := len(contract.State[cloudflare.State](t, control).Records); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestListFilters(t *testing.T) {
	control, ready := start(t)
	s := cloudflare.State{Records: []cloudflare.Record{
		{Name: "a." + zone, Type: "A", Content: "192.0.2.1", Comment: "x"},
		{Name: "a." + zone, Type: "A", Content: "192.0.2.2", Proxied: true},
		{Name: "a." + zone, Type: "TXT", Content: "text"},
		{Name: "a.sub." + zone, Type: "A", Content: "192.0.2.1"},
	}}
	if err := control.Add(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	api, err := sdk.NewWithAPIToken(token, sdk.BaseURL(ready.HTTP+"/client/v4"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := api.ZoneIDByName(zone)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	for i, tt := range []struct {
		params sdk.ListDNSRecordsParams
		want   int
	}{
		{sdk.ListDNSRecordsParams{}, 3},
		{sdk.ListDNSRecordsParams{Name: "a." + zone, Type: "A"}, 2},
		{sdk.ListDNSRecordsParams{Content: "192.0.2.1"}, 1},
		{sdk.ListDNSRecordsParams{Comment: "x"}, 1},
		{sdk.ListDNSRecordsParams{Proxied: &yes}, 1},
		{sdk.ListDNSRecordsParams{ResultInfo: sdk.ResultInfo{Page: 2, PerPage: 2}}, 1},
	} {
		got, _, err := api.ListDNSRecords(t.Context(), sdk.ZoneIdentifier(id), tt.params)
		if err != nil || len(got) != tt.want {
			t.Errorf("%d: %d records, %v", i, len(got), err)
		}
	}
	if got := contract.Resolve(t, ready.DNS, "a."+zone, "A"); !slices.Equal(got, []string{"104.16.0.1", "192.0.2.1"}) {
		t.Errorf("resolves to %v", got)
	}
}
