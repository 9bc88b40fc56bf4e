package gossip

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

const limit = 1 << 20

// aService draws any service that the catalogue would take.
func aService() *rapid.Generator[*pancake.Service] {
	text := rapid.OneOf(rapid.StringN(0, 40, 100), rapid.StringMatching("[0-9a-f]{12}"), rapid.SampledFrom([]string{"", "http", "x"}))
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(firstMoment, lastMoment).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
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

func TestRecordsKeepEverythingButTheNote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(aService(), 0, 60).Draw(t, "services")
		for _, s := range want {
			s.Note = "stays here"
		}
		got, err := Decode(Encode(want), limit)
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

// What does not fit is left out, and leaves no trace in what follows.
func TestAddKeepsTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(aService(), 1, 20).Draw(t, "services")
		room := rapid.IntRange(headerLen, 1500).Draw(t, "limit")
		e := newEncoder(kindRecords)
		var want []pancake.Service
		for _, s := range all {
			if e.add(s, room) {
				want = append(want, *s)
			}
		}
		if len(e.b) > room {
			t.Fatalf("%d bytes, %d are allowed", len(e.b), room)
		}
		if got, err := Decode(e.b, limit); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n%v\n%v", got, want, err)
		}
	})
}

func sample() *pancake.Service {
	return &pancake.Service{
		ID: "deadbeef0001", Name: "hello", Image: "hello:1", Hostname: "n1", ProxyMode: "http", Task: "t", Status: pancake.Draining,
		Created: time.Unix(1_700_000_000, 0).UTC(), Updated: time.Unix(1_700_000_001, 5).UTC(),
		Ports:  []pancake.ServicePort{{Type: "tcp", Port: 31000, ServicePort: 80, IP: "10.0.0.1", ContainerPort: 8080}},
		Labels: map[string]string{"traefik.b": "2", "traefik.a": "1"},
	}
}

// TestTheWireStaysAsItIs pins version 2: nodes of different releases must understand each other.
func TestTheWireStaysAsItIs(t *testing.T) {
	const want = "504e4b0201" + "58" + "04" + "00026e31" + "0206deadbeef0001" + "000568656c6c6f" + "000768656c6c6f3a31" + "04" + "010174" +
		"82c49fd50c05" + "0100" + "01" + "05" + "98f201" + "50" + "000831302e302e302e31" + "903f" +
		"02" + "0009747261656669" + "6b2e61" + "000131" + "0009747261656669" + "6b2e62" + "000132"
	if got := hex.EncodeToString(Encode([]*pancake.Service{sample()})); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A later version may append to a record.
	longer, err := hex.DecodeString(strings.Replace(want, "504e4b020158", "504e4b02015a", 1) + "ffff")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(longer, limit); err != nil || len(got) != 1 || !reflect.DeepEqual(&got[0], sample()) {
		t.Errorf("a record with an unknown end: %v, %v", got, err)
	}
	s := standing{own: 1, whole: 2, ownFor: time.Second, wholeFor: time.Hour, members: 3}
	if got := hex.EncodeToString(s.encode()); got != "0101000000000000000a0200000000000000ff03000000" {
		t.Errorf("standing: %s", got)
	}
	if got := hex.EncodeToString(named(kindGoodbye, "n1")); got != "504e4b0202026e31" {
		t.Errorf("goodbye: %s", got)
	}
	c := comparison{from: "n1", step: stepDigests, digests: []hostDigest{{"n1", 1}, {"n2", 2}}}
	if got := hex.EncodeToString(c.encode()[0]); got != "504e4b0206"+"00026e31"+"0101"+"0b0100000000000000"+"00026e32"+"0200000000000000" {
		t.Errorf("digests: %s", got)
	}
	if got := hex.EncodeToString(about{"1", "h:1", "z"}.encode(512)); got != "01"+"0131"+"03683a31"+"017a" {
		t.Errorf("about: %s", got)
	}
}

func TestDecodeRefuses(t *testing.T) {
	var large []*pancake.Service
	for range 1000 {
		large = append(large, &pancake.Service{ID: "1", Hostname: "h", Task: strings.Repeat("h", 500)})
	}
	full := Encode(large[:1])
	for name, tt := range map[string]struct {
		message []byte
		says    string
	}{
		"nothing":        {nil, "not a message"},
		"something else": {[]byte(`{"ID":"x"}`), "not a message"},
		"next version":   {[]byte("PNK\x03\x01"), "run the same release"},
		"no records":     {[]byte("PNK\x02\x02\x01a"), "of kind 2"},
		"cut off":        {full[:len(full)-1], "ends too early"},
		"empty record":   {[]byte("PNK\x02\x01\x00"), "ends too early"},
		"unknown text":   {[]byte("PNK\x02\x01\x02\x00\x7f"), "not in the table"},
		"bomb":           {Encode(large), "more than"},
		"bad packing":    {[]byte("PNK\x02\x81xyz"), "unpack"},
	} {
		if _, err := Decode(tt.message, 10_000); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}

func TestComparisonsTravelWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(1, 20, 60)
		sent := comparison{from: text.Draw(t, "from"), step: rapid.IntRange(stepDigests, stepRest).Draw(t, "step"), whole: rapid.Bool().Draw(t, "whole")}
		for _, host := range rapid.SliceOfN(text, 0, 5).Draw(t, "hosts") {
			sent.digests = append(sent.digests, hostDigest{host, rapid.Uint64().Draw(t, "digest")})
			l, w := hostList{host: host}, hostWants{host: host}
			for _, s := range rapid.SliceOfN(aService(), 0, 4).Draw(t, "services") {
				l.entries = append(l.entries, entry{s.ID, s.Updated, catalog.Hash(s)})
				w.ids = append(w.ids, s.ID)
				sent.records = append(sent.records, *s)
			}
			sent.lists, sent.wants = append(sent.lists, l), append(sent.wants, w)
		}
		got := comparison{from: sent.from, step: sent.step}
		for _, message := range sent.encode() {
			kind, body, err := open(message, limit)
			if err != nil || kind != kindCompare {
				t.Fatal(kind, err)
			}
			part, err := readComparison(body)
			if err != nil || part.from != sent.from || part.step != sent.step {
				t.Fatal(part, err)
			}
			got.whole = got.whole || part.whole
			got.digests, got.lists = append(got.digests, part.digests...), append(got.lists, part.lists...)
			got.wants, got.records = append(got.wants, part.wants...), append(got.records, part.records...)
		}
		if !reflect.DeepEqual(got, sent) {
			t.Fatalf("sent %+v\ngot  %+v", sent, got)
		}
	})
}

// A mirror's digests keep within packets.
func TestMirrorsFitPackets(t *testing.T) {
	c := comparison{from: "bridge", step: stepDigests}
	for i := range 500 {
		c.digests = append(c.digests, hostDigest{fmt.Sprintf("old-host-%d", i), uint64(i)})
	}
	var got []hostDigest
	for _, b := range c.packets(packetSize - overhead) {
		kind, body, err := open(b, limit)
		if len(b) > packetSize-overhead || kind != kindMirror || err != nil {
			t.Fatal(len(b), kind, err)
		}
		part, err := readComparison(body)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, part.digests...)
	}
	if !reflect.DeepEqual(got, c.digests) {
		t.Errorf("%d digests arrived", len(got))
	}
}

// FuzzMessage feeds all decoders with what could come from the network: they must
// neither panic nor let through what cannot be said again.
func FuzzMessage(f *testing.F) {
	s := sample()
	f.Add(Encode([]*pancake.Service{s, s}))
	f.Add(Encode(slicesRepeat(s, 100)))
	f.Add(named(kindGoodbye, "n1"))
	c := comparison{from: "a", step: 2, digests: []hostDigest{{"h", 1}}, lists: []hostList{{"h", []entry{{"1", s.Updated, 2}}}}, wants: []hostWants{{"h", []string{"1"}}}, records: []pancake.Service{*s}}
	for _, b := range c.encode() {
		f.Add(b)
	}
	f.Add(standing{own: 1}.encode())
	f.Add(about{"1", "2", "3"}.encode(100))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := readAbout(b); !reflect.DeepEqual(readAbout(a.encode(4*maxName)), a) {
			t.Fatalf("about %+v", a)
		}
		if s, err := readStanding(b); err == nil && !bytes.Equal(s.encode(), b[:standingLen]) {
			t.Fatalf("standing %+v", s)
		}
		kind, body, err := open(b, limit)
		if err != nil {
			return
		}
		if name, err := readName(body); err == nil {
			if again, err := readName(named(kind, name)[headerLen:]); err != nil || again != name {
				t.Fatalf("name %q, %q, %v", name, again, err)
			}
		}
		if c, err := readComparison(body); err == nil {
			reply, merge := answer(catalog.New("self", "c").Snapshot(), c)
			reply.encode()
			catalog.New("self", "c").Merge(merge, time.Unix(1_700_000_000, 0))
		}
		got, err := readRecords(newDecoder(body))
		if err != nil {
			return
		}
		pointers := make([]*pancake.Service, len(got))
		for i := range got {
			pointers[i] = &got[i]
		}
		again, err := Decode(Encode(pointers), 100*limit)
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%v\n%v\n%v", got, again, err)
		}
		catalog.New("self", "c").Merge(got, time.Unix(1_700_000_000, 0))
	})
}

func slicesRepeat(s *pancake.Service, n int) []*pancake.Service {
	out := make([]*pancake.Service, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// tenThousand are services as a large cluster has them.
func tenThousand() []*pancake.Service {
	var out []*pancake.Service
	for i := range 10_000 {
		out = append(out, &pancake.Service{
			ID: fmt.Sprintf("%012x", i*7919), Name: fmt.Sprintf("service-%d", i%500), Image: fmt.Sprintf("registry.example/service-%d:%d", i%500, i%7),
			Hostname: fmt.Sprintf("node-%d", i%1000), ProxyMode: "http", Created: time.Unix(1_700_000_000+int64(i), 0).UTC(), Updated: time.Unix(1_700_100_000+int64(i), 12345).UTC(),
			Ports:  []pancake.ServicePort{{Type: "tcp", Port: int64(31000 + i%1000), ServicePort: 10000, IP: fmt.Sprintf("10.0.%d.%d", i%1000/250, i%250)}},
			Labels: map[string]string{"traefik.http.routers.r.rule": "Host(`example.com`)"}, Task: fmt.Sprintf("prod_service-1-%d-1-node-rack", i),
		})
	}
	return out
}

func BenchmarkEncode10000(b *testing.B) {
	services := tenThousand()
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = len(Encode(services))
	}
	b.ReportMetric(float64(size)/float64(len(services)), "B/service")
}

func BenchmarkDecode10000(b *testing.B) {
	message := Encode(tenThousand())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(message, 64<<20); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStanding(b *testing.B) {
	s := standing{own: 1, whole: 2}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readStanding(s.encode()); err != nil {
			b.Fatal(err)
		}
	}
}
