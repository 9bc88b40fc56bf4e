package document_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/api/document"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/client"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestDocumentsAreTheEncodings compares the documents, which are put together from
// those of the snapshot before, with the plain encoding, through many changes.
func TestDocumentsAreTheEncodings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, docs := catalog.New(`"self"<`, "c"), &document.Cache{}
		hosts := []string{"a", "b", `"c"\`, "ü<"}
		for i := range 10 {
			c.Merge([]pancake.Service{{
				ID: rapid.StringN(1, 3, 10).Draw(t, "id"), Hostname: rapid.SampledFrom(hosts).Draw(t, "host"),
				Name: rapid.StringN(0, 2, 4).Draw(t, "name"), Updated: noon.Add(time.Duration(i)),
				Labels: rapid.MapOfN(rapid.String(), rapid.String(), 0, 2).Draw(t, "labels"),
			}}, noon)
			snap := c.Snapshot()
			var members []client.Member
			shown := map[string]document.Host{}
			for _, h := range hosts[:rapid.IntRange(0, len(hosts)).Draw(t, "members")] {
				members = append(members, client.Member{Name: h, State: client.MemberAlive})
				shown[h] = document.Host{Name: h, LastUpdated: time.Unix(0, 0).UTC()}
				if host := snap.Hosts[h]; host != nil {
					shown[h] = document.Host{Name: h, LastUpdated: host.LastUpdated, ServiceCount: len(host.Services)}
				}
			}
			check := func(what string, got *document.Document, err error, want []byte) {
				t.Helper()
				if err != nil || string(got.Body) != string(want) {
					t.Fatalf("%s, %v\ngot  %s\nwant %s", what, err, got.Body, want)
				}
			}
			got, err := docs.State(snap)
			check("state", got, err, plain(t, document.State(snap)))
			got, err = docs.ByService(snap)
			check("by service", got, err, plain(t, snap.ByService()))
			got, err = docs.List(snap, snap.Services())
			check("list", got, err, append(plain(t, struct{ Services []*pancake.Service }{snap.Services()}), '\n'))
			got, err = docs.Services(snap, members)
			want, _ := json.MarshalIndent(document.Services{Services: snap.ByService(), ClusterMembers: shown, ClusterName: "c"}, "", "  ")
			check("services", got, err, want)
			later := *snap
			later.LastChanged = noon.Add(time.Hour)
			body, err := docs.StateAt(snap, later.LastChanged)
			check("state at", document.New(body), err, plain(t, document.State(&later)))
		}
	})
}

func plain(t *rapid.T, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOneEncodingPerSnapshot(t *testing.T) {
	c, docs := catalog.New("n1", "c"), &document.Cache{}
	c.Merge([]pancake.Service{{ID: "1", Hostname: "n2", Updated: noon}}, noon)
	snap := c.Snapshot()
	one, _ := docs.State(snap)
	two, _ := docs.State(snap)
	if one != two {
		t.Error("the same snapshot was encoded twice")
	}
	c.Merge([]pancake.Service{{ID: "1", Hostname: "n2", Updated: noon.Add(1)}}, noon)
	three, _ := docs.State(c.Snapshot())
	if three == one || three.Tag() == one.Tag() {
		t.Errorf("another snapshot has the same document: %s, %s", one.Tag(), three.Tag())
	}
	zipped, err := three.Zipped()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != string(three.Body) {
		t.Errorf("unpacked: %s, %v", b, err)
	}
}

// BenchmarkChange10000 is one change among 10,000 services and the document of
// the new snapshot.
func BenchmarkChange10000(b *testing.B) {
	c := catalog.New("n1", "default")
	var records []pancake.Service
	for i := range 10_000 {
		records = append(records, pancake.Service{
			ID: fmt.Sprintf("%012x", i), Name: fmt.Sprintf("service-%d", i%500), Image: "registry/service:1", Hostname: fmt.Sprintf("node-%d", i%1000),
			Created: noon, Updated: noon, ProxyMode: "http", Ports: []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 10080, IP: "10.0.0.1", ContainerPort: 80}},
		})
	}
	c.Merge(records, noon)
	changed := records[:1]
	change := func(i int) *catalog.Snapshot {
		changed[0].Updated = noon.Add(time.Duration(i))
		c.Merge(changed, noon)
		return c.Snapshot()
	}
	docs := &document.Cache{}
	for name, make := range map[string]func(*catalog.Snapshot) (*document.Document, error){
		"state": docs.State, "by_service": docs.ByService,
		"services": func(s *catalog.Snapshot) (*document.Document, error) { return docs.Services(s, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for i := 0; b.Loop(); i++ {
				doc, err := make(change(i))
				if err != nil {
					b.Fatal(err)
				}
				size = len(doc.Body)
			}
			b.ReportMetric(float64(size)/1e6, "MB")
		})
	}
}
