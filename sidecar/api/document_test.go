package api

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestStateIsTheEncodedState compares the document that is put together from
// what is known of each host with the plain encoding, through many changes.
func TestStateIsTheEncodedState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, docs := catalog.New(`"self"<`, "c"), &documents{}
		for i := range 10 {
			c.Merge([]pancake.Service{{
				ID: rapid.StringN(1, 3, 10).Draw(t, "id"), Hostname: rapid.SampledFrom([]string{"a", "b", `"c"\`, "ü<"}).Draw(t, "host"),
				Name: rapid.String().Draw(t, "name"), Updated: noon.Add(time.Duration(i)),
			}}, noon)
			snap := c.Snapshot()
			got, err := docs.state(snap)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(State(snap))
			if err != nil || string(got) != string(want) {
				t.Fatalf("got  %s\nwant %s, %v", got, want, err)
			}
		}
	})
}

func BenchmarkState10000(b *testing.B) {
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
	for name, document := range map[string]func(*documents, *catalog.Snapshot) ([]byte, error){"whole": (*documents).state, "by_service": (*documents).services} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			docs, size := &documents{}, 0
			for i := 0; b.Loop(); i++ {
				doc, err := document(docs, change(i))
				if err != nil {
					b.Fatal(err)
				}
				size = len(doc)
			}
			b.ReportMetric(float64(size)/1e6, "MB")
		})
	}
}
