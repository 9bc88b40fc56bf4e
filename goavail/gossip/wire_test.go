package gossip

import (
	"bytes"
	"crypto/ed25519"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// key makes a private key from a word.
func key(word string) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	copy(seed, word)
	return ed25519.NewKeyFromSeed(seed)
}

func public(word string) ed25519.PublicKey {
	return key(word).Public().(ed25519.PublicKey)
}

func TestEnvelopesAreWhatWasSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Message{
			From: rapid.StringN(0, 20, maxPlace).Draw(t, "from"), Kind: Kind(rapid.Byte().Draw(t, "kind")),
			Stamp: vote.Stamp{Incarnation: rapid.Uint64().Draw(t, "incarnation"), Seq: rapid.Uint64().Draw(t, "seq")},
			Body:  rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		}
		b := seal(want, "c", key("a"))
		got, err := open(b)
		if err != nil || got.From != want.From || got.Kind != want.Kind || got.Stamp != want.Stamp || !bytes.Equal(got.Body, want.Body) {
			t.Fatalf("sealed %+v, opened %+v, %v", want, got, err)
		}
		if !verify(b, "c", public("a")) || verify(b, "other", public("a")) || verify(b, "c", public("b")) || verify(b, "c", nil) {
			t.Fatal("the signature is good for the wrong things")
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "where")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if verify(b, "c", public("a")) {
			t.Fatal("the signature is good for something else")
		}
	})
}

func TestTablesFitPacketsAndKeepEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.Custom(func(t *rapid.T) Line {
			return Line{Target: rapid.Uint64().Draw(t, "target"), Ballot: vote.Ballot{Verdict: vote.Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")), Why: rapid.StringN(0, 20, 60).Draw(t, "why")}}
		})
		want := Table{Config: rapid.Uint64().Draw(t, "config"), Lines: rapid.SliceOfN(line, 0, 200).Draw(t, "lines")}
		var got []Line
		for _, body := range Tables(want) {
			if len(body) > packetSize-overhead {
				t.Fatalf("%d bytes fit no packet", len(body))
			}
			part, err := ReadTable(body)
			if err != nil || part.Config != want.Config {
				t.Fatal(part, err)
			}
			got = append(got, part.Lines...)
		}
		if len(got) != len(want.Lines) || len(got) > 0 && !reflect.DeepEqual(got, want.Lines) {
			t.Fatalf("%v\n%v", want.Lines, got)
		}
	})
}

func TestLongReasonsAreCut(t *testing.T) {
	bodies := Tables(Table{Lines: []Line{{Ballot: vote.Ballot{Why: strings.Repeat("x", 5000)}}}})
	got, err := ReadTable(bodies[len(bodies)-1])
	if err != nil || len(got.Lines) != 1 || len(got.Lines[0].Why) != maxWhy {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNothingCountsTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		taken := map[vote.Stamp]bool{}
		highest := vote.Stamp{}
		stamp := rapid.Custom(func(t *rapid.T) vote.Stamp {
			return vote.Stamp{Incarnation: rapid.Uint64Range(1, 2).Draw(t, "incarnation"), Seq: rapid.Uint64Range(1, 1200).Draw(t, "seq")}
		})
		for _, s := range rapid.SliceOfN(stamp, 0, 60).Draw(t, "stamps") {
			ok := w.take(s)
			if ok && (taken[s] || s.Incarnation < highest.Incarnation) {
				t.Fatalf("%+v was taken twice, or after %+v", s, highest)
			}
			near := s.Incarnation == highest.Incarnation && s.Seq+windowSize > highest.Seq
			if !ok && !taken[s] && (s.Incarnation > highest.Incarnation || near) {
				t.Fatalf("%+v is new and was refused after %+v", s, highest)
			}
			if taken[s] = taken[s] || ok; ok && s.Compare(highest) > 0 {
				highest = s
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	good := seal(Message{From: "p1", Body: []byte("x")}, "c", key("a"))
	long := seal(Message{From: strings.Repeat("p", maxPlace+1)}, "c", key("a"))
	next := bytes.Clone(good)
	next[3] = 2
	for says, b := range map[string][]byte{
		"none of goavail's": []byte(strings.Repeat("x", 200)), "same release": next, "too long": long, "bytes": make([]byte, maxBody*2),
	} {
		if _, err := open(b); pancake.KindOf(err) != pancake.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// FuzzOpen feeds what reads the network with what could come from it.
func FuzzOpen(f *testing.F) {
	f.Add(seal(Message{From: "p1", Kind: Ballots, Body: Tables(Table{Lines: []Line{{Target: 1, Ballot: vote.Ballot{Verdict: vote.Down, Why: "x"}}}})[0]}, "c", key("a")))
	f.Add([]byte("PGA\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := open(b)
		if err != nil {
			return
		}
		if len(m.From) > maxPlace {
			t.Fatal("a long name came through")
		}
		if verify(b, "c", public("rogue")) {
			t.Fatal("signed by nobody, and good")
		}
	})
}

// FuzzReadTable does the same with ballots.
func FuzzReadTable(f *testing.F) {
	f.Add(Tables(Table{Config: 7, Lines: []Line{{Target: 1, Ballot: vote.Ballot{Verdict: vote.Down, Why: "x"}}, {Target: 2}}})[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadTable(b)
		if err != nil {
			return
		}
		for _, l := range got.Lines {
			if l.Verdict > vote.Down || len(l.Why) > maxWhy {
				t.Fatalf("%+v came through", l)
			}
		}
	})
}
