package wire

import (
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The field for a cluster named bench, as NinesStack Sidecar was seen to send it.
const benchPair = "ab436c75737465724e616d65a562656e6368"

// dead says that n1 is dead, as stock memberlist writes it: {Incarnation: 1, Node: n1, From: n2}.
const (
	bareDead   = "05" + "83" + "ab496e6361726e6174696f6e" + "01" + "a44e6f6465" + "a26e31" + "a446726f6d" + "a26e32"
	sealedDead = "05" + "84" + benchPair + "ab496e6361726e6174696f6e" + "01" + "a44e6f6465" + "a26e31" + "a446726f6d" + "a26e32"
	// A state of no member and of two bytes: {Nodes: 0, UserStateLen: 2, Join: true}, {}.
	bareState   = "06" + "83" + "a54e6f646573" + "00" + "ac5573657253746174654c656e" + "02" + "a44a6f696e" + "c3" + "7b7d"
	sealedState = "06" + "84" + benchPair + "a54e6f646573" + "00" + "ac5573657253746174654c656e" + "02" + "a44a6f696e" + "c3" + "7b7d"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func cluster(t testing.TB, name string) *Cluster {
	t.Helper()
	c, err := NewCluster(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sum(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{checksummed}, crc32.ChecksumIEEE(b)), b...)
}

func compoundOf(parts ...[]byte) []byte {
	out := []byte{compound, byte(len(parts))}
	for _, p := range parts {
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	}
	return append(out, bytes.Join(parts, nil)...)
}

// packed compresses as a peer does.
func packed(b []byte) []byte {
	var buf bytes.Buffer
	w := lzw.NewWriter(&buf, lzw.LSB, 8)
	_, _ = w.Write(b)
	_ = w.Close()
	out := append([]byte{compressed, 0x82}, "\xa4Algo\x00\xa3Buf"...)
	return append(binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(buf.Len())), buf.Bytes()...)
}

func TestSeal(t *testing.T) {
	bare, sealed := fromHex(t, bareDead), fromHex(t, sealedDead)
	hello := []byte("\x08{}")
	tests := []struct {
		name     string
		in, want []byte
	}{
		{"dead", bare, sealed},
		{"suspect", append([]byte{suspect}, bare[1:]...), append([]byte{suspect}, sealed[1:]...)},
		{"alive", append([]byte{alive}, bare[1:]...), append([]byte{alive}, sealed[1:]...)},
		{"user message", hello, hello},
		{"ping", []byte{ping, 0x80}, []byte{ping, 0x80}},
		{"compound", compoundOf(hello, bare, bare), compoundOf(hello, sealed, sealed)},
		{"checksum", sum(bare), sum(sealed)},
		{"checksum of compound", sum(compoundOf(bare, hello)), sum(compoundOf(sealed, hello))},
	}
	c := cluster(t, "bench")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Seal(tt.in)
			if err != nil || !bytes.Equal(got, tt.want) {
				t.Errorf("got %x, %v\nwant %x", got, err, tt.want)
			}
		})
	}
	for name, in := range map[string][]byte{
		"empty": {}, "no map": {alive, 0x01}, "cut": compoundOf(bare)[:8], "wrong checksum": append(sum(bare), 1),
		"compressed": packed(bare), "wrapped too often": sum(sum(sum(sum(bare)))),
	} {
		if got, err := c.Seal(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
	}
}

// TestBombsInBombs: what is compressed again and again must not cost more than one packet.
func TestBombsInBombs(t *testing.T) {
	c := cluster(t, "bench")
	bomb := packed(compoundOf(append([]byte{user}, make([]byte, 60000)...)))
	many := make([][]byte, 150)
	for i := range many {
		many[i] = bomb
	}
	for name, packet := range map[string][]byte{"side by side": compoundOf(many...), "one in another": packed(compoundOf(many...))} {
		if len(packet) > maxPacket {
			t.Fatalf("%s: %d bytes do not fit into a packet", name, len(packet))
		}
		messages, err := c.Open(packet)
		size := 0
		for _, m := range messages {
			size += len(m)
		}
		if size > maxPacket || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d bytes became %d, %v", name, len(packet), size, err)
		}
	}
}

func TestSealStream(t *testing.T) {
	c := cluster(t, "bench")
	got, err := c.SealStream(fromHex(t, bareState))
	if want := fromHex(t, sealedState); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v\nwant %x", got, err, want)
	}
	other := []byte{user, 0x81}
	if got, err := c.SealStream(other); err != nil || !bytes.Equal(got, other) {
		t.Errorf("a user message became %x, %v", got, err)
	}
}

func TestLongNameAndFullMap(t *testing.T) {
	name := strings.Repeat("x", 40)
	c := cluster(t, name)
	if want := append([]byte("\xabClusterName\xda\x00\x28"), name...); !bytes.Equal(c.pair, want) {
		t.Errorf("pair %q, want %q", c.pair, want)
	}
	full := []byte{alive, 0x8f}
	for i := range 15 {
		full = append(full, 0xa1, byte('a'+i), 1)
	}
	sealed, err := c.Seal(full)
	if err != nil || !bytes.HasPrefix(sealed, []byte{alive, 0xde, 0, 16}) {
		t.Fatalf("a map of 16 begins %x, %v", sealed[:4], err)
	}
	opened, err := c.Open(sealed)
	if err != nil || len(opened) != 1 || !bytes.Equal(opened[0], full) {
		t.Errorf("back to %x, %v", opened, err)
	}
	for _, bad := range []string{"", strings.Repeat("x", 256)} {
		if _, err := NewCluster(bad); err == nil {
			t.Errorf("a name of %d bytes was taken", len(bad))
		}
	}
}

func TestOpen(t *testing.T) {
	bare, sealed := fromHex(t, bareDead), fromHex(t, sealedDead)
	foreign, err := cluster(t, "other").Seal(bare)
	if err != nil {
		t.Fatal(err)
	}
	hello := []byte("\x08{}")
	big := append([]byte{user}, bytes.Repeat([]byte{'x'}, maxPacket)...)
	tests := []struct {
		name string
		in   []byte
		want [][]byte
		err  error
	}{
		{"dead", sealed, [][]byte{bare}, nil},
		{"compressed", packed(sealed), [][]byte{bare}, nil},
		{"checksum of compressed compound", sum(packed(compoundOf(sealed, hello))), [][]byte{bare, hello}, nil},
		{"bin as value", append(fromHex(t, "0582"), fromHex(t, "ab436c75737465724e616d65c40562656e6368"+"a0"+"c0")...), [][]byte{fromHex(t, "0581a0c0")}, nil},
		{"another cluster", foreign, nil, ErrWrongCluster},
		{"no cluster", bare, nil, ErrWrongCluster},
		{"one of three of another cluster", compoundOf(hello, foreign, sealed), [][]byte{hello, bare}, ErrWrongCluster},
		{"a part is missing", compoundOf(hello, sealed)[:15], [][]byte{hello}, ErrMalformed},
		{"encrypted", []byte{encrypted, 1, 2}, nil, ErrEncrypted},
		{"a state in a packet", fromHex(t, sealedState), nil, ErrMalformed},
		{"unknown type", []byte{200}, nil, ErrMalformed},
		{"wrong checksum", append(sum(sealed), 0), nil, ErrMalformed},
		{"trailing bytes", append(bytes.Clone(sealed), 0), nil, ErrMalformed},
		{"wrapped too often", packed(packed(packed(packed(sealed)))), nil, ErrMalformed},
		{"too large", big, nil, ErrMalformed},
		{"too large once unpacked", packed(append(big, big...)), nil, ErrMalformed},
		{"empty", nil, nil, ErrMalformed},
		{"an object that promises 4 GB", []byte{alive, 0x81, 0xdb, 0xff, 0xff, 0xff, 0xff}, nil, ErrMalformed},
		{"objects that nest", append([]byte{alive, 0x81}, bytes.Repeat([]byte{0x91}, 1000)...), nil, ErrMalformed},
	}
	c := cluster(t, "bench")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := c.Open(tt.in)
			if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if tt.err != nil && Cause(err) == "" {
				t.Errorf("no cause for %v", err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("%d messages, want %d: %x", len(got), len(tt.want), got)
			}
			for i := range got {
				if !bytes.Equal(got[i], tt.want[i]) {
					t.Errorf("message %d is %x, want %x", i, got[i], tt.want[i])
				}
			}
		})
	}
}

// stateOf is the header of a state with this as its length.
func stateOf(t *testing.T, length string) []byte {
	t.Helper()
	return bytes.Replace(fromHex(t, sealedState), []byte("Len\x02"), []byte("Len"+length), 1)
}

// What memberlist itself has to judge is passed on.
func TestLengthOfAState(t *testing.T) {
	c := cluster(t, "bench")
	for name, length := range map[string]string{
		"all that is taken": "\xce\x01\x40\x00\x00", "less than nothing": "\xd2\xff\xff\xff\xff", "the same in short": "\xff", "no number": "\xa1x", "a byte": "\xcc\x80",
	} {
		if _, err := c.OpenStream(bytes.NewReader(stateOf(t, length))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEndlessStream: one that sends for ever is an error that says so, not an end.
func TestEndlessStream(t *testing.T) {
	r, err := cluster(t, "bench").OpenStream(io.MultiReader(bytes.NewReader(fromHex(t, sealedState)), forever{}))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrTooLarge) || Cause(err) != "oversized" || n > maxStream {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

func TestOpenStream(t *testing.T) {
	sealed := fromHex(t, sealedState)
	foreign, err := cluster(t, "other").SealStream(fromHex(t, bareState))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		in         []byte
		err        error
	}{
		{"state", bareState, sealed, nil},
		{"compressed state", bareState, packed(sealed), nil},
		{"ack", "0280", []byte{ack, 0x80}, nil},
		{"another cluster", "", foreign, ErrWrongCluster},
		{"no cluster", "", fromHex(t, bareState), ErrWrongCluster},
		{"no cluster, compressed", "", packed(fromHex(t, bareState)), ErrWrongCluster},
		{"encrypted", "", []byte{encrypted}, ErrEncrypted},
		{"cut", "", sealed[:9], ErrMalformed},
		{"compressed nothing", "", packed(nil), ErrMalformed},
		{"unknown algorithm", "", []byte("\x09\x82\xa4Algo\x01\xa3Buf\xa0"), ErrMalformed},
		{"huge header", "", append([]byte{pushPull, 0x81, 0xda, 0xff, 0xff}, make([]byte, 70000)...), ErrMalformed},
		{"nothing", "", nil, io.EOF},
		{"too large a state", "", stateOf(t, "\xce\x01\x40\x00\x01"), ErrTooLarge}, // 20 MiB and a byte
		{"too large a state, signed", "", stateOf(t, "\xd3\x00\x00\x00\x01\x00\x00\x00\x00"), ErrTooLarge},
		{"too large a state, compressed", "", packed(stateOf(t, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff")), ErrTooLarge},
		{"too large once unpacked", "", packed(make([]byte, maxStream+1)), ErrTooLarge},
	}
	c := cluster(t, "bench")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := c.OpenStream(bytes.NewReader(tt.in))
			if tt.err != nil {
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || hex.EncodeToString(got) != tt.want {
				t.Errorf("got %x, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// Whatever memberlist sends is what a peer's memberlist reads.
func TestSealThenOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := NewCluster(rapid.StringN(1, 40, 255).Filter(func(s string) bool { return s != "" }).Draw(t, "cluster"))
		if err != nil {
			t.Skip("a name that is too long")
		}
		leaf := rapid.Custom(func(t *rapid.T) []byte {
			kind := rapid.SampledFrom([]byte{ping, ack, suspect, alive, dead, user, nack}).Draw(t, "type")
			n := rapid.IntRange(0, 15).Draw(t, "fields")
			body := []byte{kind, 0x80 | byte(n)}
			for range n {
				body = appendText(body, rapid.StringMatching(`[a-z]{0,40}`).Draw(t, "key"))
				body = appendText(body, rapid.String().Filter(func(s string) bool { return len(s) < 300 }).Draw(t, "value"))
			}
			return body
		})
		leaves := rapid.SliceOfN(leaf, 1, 5).Draw(t, "messages")
		packet := leaves[0]
		if len(leaves) > 1 {
			packet = compoundOf(leaves...)
		}
		if rapid.Bool().Draw(t, "checksum") {
			packet = sum(packet)
		}
		sealed, err := c.Seal(packet)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Open(sealed)
		if err != nil || len(got) != len(leaves) {
			t.Fatalf("%d of %d messages, %v", len(got), len(leaves), err)
		}
		for i := range got {
			if !bytes.Equal(got[i], leaves[i]) {
				t.Fatalf("message %d is %x, was %x", i, got[i], leaves[i])
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	sealed := fromHex(f, sealedDead)
	for _, b := range [][]byte{sealed, packed(sealed), sum(compoundOf(sealed, []byte("\x08{}"))), fromHex(f, bareDead), {compound, 255}} {
		f.Add(b)
	}
	c := cluster(f, "bench")
	f.Fuzz(func(t *testing.T, b []byte) {
		messages, err := c.Open(b)
		if err != nil && Cause(err) == "" {
			t.Errorf("%v has no cause", err)
		}
		for _, m := range messages {
			if m[0] == checksummed || m[0] == compound || m[0] == compressed {
				t.Errorf("%x is still wrapped", m)
			}
			if m[0] < suspect || m[0] > dead {
				continue
			}
			sealed, err := c.Seal(m)
			if err != nil {
				t.Fatalf("what was opened cannot be sealed: %x: %v", m, err)
			}
			if again, err := c.Open(sealed); err != nil || len(again) != 1 || !bytes.Equal(again[0], m) {
				t.Errorf("%x became %x, %v", m, again, err)
			}
		}
	})
}

func FuzzOpenStream(f *testing.F) {
	sealed := fromHex(f, sealedState)
	for _, b := range [][]byte{sealed, packed(sealed), fromHex(f, bareState), {pushPull}, {ack, 0x80}} {
		f.Add(b)
	}
	c := cluster(f, "bench")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := c.OpenStream(bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	})
}
