package gossip_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/gossip"
)

const limit = 1 << 20

// aService draws any service that the catalogue would take.
func aService() *rapid.Generator[*pancake.Service] {
	text := rapid.StringN(0, 40, 100)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-62_135_596_800, 253_402_300_799).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	port := rapid.Custom(func(t *rapid.T) pancake.ServicePort {
		return pancake.ServicePort{Type: text.Draw(t, "type"), Port: rapid.Int64Range(0, 65535).Draw(t, "port"), ServicePort: rapid.Int64Range(0, 65535).Draw(t, "sp"), IP: text.Draw(t, "ip"), ContainerPort: rapid.Int64Range(0, 65535).Draw(t, "cp")}
	})
	return rapid.Custom(func(t *rapid.T) *pancake.Service {
		s := &pancake.Service{
			ID: text.Draw(t, "id"), Name: text.Draw(t, "name"), Image: text.Draw(t, "image"), Hostname: text.Draw(t, "host"), ProxyMode: text.Draw(t, "mode"),
			Task: text.Draw(t, "task"), Created: moment.Draw(t, "created"), Updated: moment.Draw(t, "updated"), Status: pancake.ServiceStatus(rapid.IntRange(0, 4).Draw(t, "status")),
			Ports: rapid.SliceOfN(port, 0, 4).Draw(t, "ports"), Labels: rapid.MapOfN(text, text, 0, 5).Draw(t, "labels"),
		}
		if len(s.Ports) == 0 {
			s.Ports = nil
		}
		if len(s.Labels) == 0 {
			s.Labels = nil
		}
		return s
	})
}

func TestEnvelopeKeepsEverythingButTheNote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(aService(), 0, 60).Draw(t, "services")
		for _, s := range want {
			s.Note = "stays here"
		}
		got, err := gossip.Decode(gossip.Encode(want), limit)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d records, %v", len(got), len(want), err)
		}
		for i := range got {
			want[i].Note = ""
			if !reflect.DeepEqual(&got[i], want[i]) {
				t.Fatalf("sent %+v, got %+v", want[i], got[i])
			}
		}
	})
}

// TestTheWireStaysAsItIs pins version 1: nodes of different releases must understand each other.
func TestTheWireStaysAsItIs(t *testing.T) {
	s := &pancake.Service{
		ID: "deadbeef0001", Name: "hello", Image: "hello:1", Hostname: "n1", ProxyMode: "http", Task: "t", Status: pancake.Draining,
		Created: time.Unix(1_700_000_000, 0), Updated: time.Unix(1_700_000_001, 5),
		Ports:  []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 80, IP: "10.0.0.1", ContainerPort: 8080}},
		Labels: map[string]string{"traefik.b": "2", "traefik.a": "1"},
	}
	const want = "504e4b01005f04026e310c646561646265656630303031" + "0568656c6c6f" + "0768656c6c6f3a31" + "0468747470" + "0174" +
		"82c49fd50c05" + "80c49fd50c00" + "0103746370" + "98f201" + "50" + "0831302e302e302e31" + "903f" + "02" + "09747261656669" + "6b2e610131" + "09747261656669" + "6b2e620132"
	if got := hex.EncodeToString(gossip.Encode([]*pancake.Service{s})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A later version may append to a record.
	longer, err := hex.DecodeString(strings.Replace(want, "504e4b01005f", "504e4b010061", 1) + "ffff")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := gossip.Decode(longer, limit); err != nil || len(got) != 1 || got[0].Name != "hello" {
		t.Errorf("a record with an unknown end: %v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	var large []*pancake.Service
	for range 1000 {
		large = append(large, &pancake.Service{ID: "1", Hostname: strings.Repeat("h", 500)})
	}
	full := gossip.Encode(large[:1])
	for name, tt := range map[string]struct {
		message []byte
		says    string
	}{
		"nothing":        {nil, "not a message"},
		"something else": {[]byte(`{"ID":"x"}`), "not a message"},
		"next version":   {[]byte("PNK\x02\x00"), "run the same release"},
		"cut off":        {full[:len(full)-1], "ends too early"},
		"empty record":   {[]byte("PNK\x01\x00\x00"), "empty record"},
		"bomb":           {gossip.Encode(large), "more than"},
		"bad packing":    {[]byte("PNK\x01\x01xyz"), "unpack"},
	} {
		if _, err := gossip.Decode(tt.message, 10_000); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}

// FuzzDecode feeds the decoder with what could come from the network: it must
// neither panic nor let through what the JSON of the API cannot show.
func FuzzDecode(f *testing.F) {
	s := &pancake.Service{ID: "1", Hostname: "h", Ports: []pancake.ServicePort{{Type: "tcp"}}, Labels: map[string]string{"a": "b"}}
	f.Add(gossip.Encode([]*pancake.Service{s, s}))
	f.Add(gossip.Encode(make100(s)))
	f.Add([]byte("PNK\x01\x00\x05\x00\x01h\x01i"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := gossip.Decode(b, limit)
		if err != nil {
			return
		}
		pointers := make([]*pancake.Service, len(got))
		for i := range got {
			pointers[i] = &got[i]
		}
		again, err := gossip.Decode(gossip.Encode(pointers), 2*limit)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%v\n%v\n%v", got, again, err)
		}
		catalog.New("self", "c").Merge(got, time.Unix(1_700_000_000, 0))
	})
}

func make100(s *pancake.Service) []*pancake.Service {
	out := make([]*pancake.Service, 100)
	for i := range out {
		out[i] = s
	}
	return out
}

func BenchmarkEncode10000(b *testing.B) {
	services := tenThousand()
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = len(gossip.Encode(services))
	}
	b.ReportMetric(float64(size)/float64(len(services)), "B/service")
}

func BenchmarkDecode10000(b *testing.B) {
	message := gossip.Encode(tenThousand())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gossip.Decode(message, 64<<20); err != nil {
			b.Fatal(err)
		}
	}
}
