package oldsidecar

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

// The bytes are those that NinesStack Sidecar was seen to send.
func TestPack(t *testing.T) {
	tests := []struct {
		in   entry
		want string
	}{
		{entry{"ClusterName", "bench"}, "81" + "ab436c75737465724e616d65a562656e6368"},
		{entry{"Port", 7946}, "81" + "a4506f7274" + "cd1f0a"},
		{entry{"Nodes", 3}, "81" + "a54e6f646573" + "03"},
		{entry{"Incarnation", 200}, "81" + "ab496e6361726e6174696f6e" + "ccc8"},
		{entry{"UserStateLen", 70000}, "81" + "ac5573657253746174654c656e" + "ce00011170"},
		{entry{"Join", true}, "81" + "a44a6f696e" + "c3"},
		{entry{"Vsn", version()}, "81" + "a356736e" + "a6010502000000"},
		{entry{"Meta", []byte(nil)}, "81" + "a44d657461" + "c0"},
		{entry{"Buf", strings.Repeat("x", 40)}, "81" + "a3427566" + "da0028" + strings.Repeat("78", 40)},
	}
	for _, tt := range tests {
		b := pack(nil, tt.in)
		if got := hex.EncodeToString(b); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, got, tt.want)
		}
		m, err := unpack(bufio.NewReader(bytes.NewReader(b)))
		want := tt.in.value
		if raw, ok := want.([]byte); ok {
			want = any(nil)
			if raw != nil {
				want = string(raw)
			}
		}
		if err != nil || !reflect.DeepEqual(m, message{tt.in.name: want}) {
			t.Errorf("%v came back as %v, %v", tt.in, m, err)
		}
	}
}

func TestMessagesNameTheCluster(t *testing.T) {
	p := &Peer{cfg: Config{Name: "o1", Cluster: "bench"}, members: map[string]*member{"o1": {name: "o1", vsn: version()}}}
	pair, err := hex.DecodeString("ab436c75737465724e616d65a562656e6368")
	if err != nil {
		t.Fatal(err)
	}
	for kind, b := range map[byte][]byte{
		tAlive: p.aliveMessage(p.members["o1"]), tDead: p.deadMessage(tDead, 1, "o2", "o1"), tSuspect: p.deadMessage(tSuspect, 1, "o2", "o1"),
		tPushPull: p.localState(true),
	} {
		if b[0] != kind || !bytes.Contains(b, pair) {
			t.Errorf("type %d: %x", kind, b)
		}
	}
	if got, err := decompress(compress([]byte("some text"))[1:]); err != nil || string(got) != "some text" {
		t.Errorf("%q, %v", got, err)
	}
}
