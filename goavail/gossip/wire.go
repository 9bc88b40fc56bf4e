package gossip

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// What travels between two agents is an envelope: "PGA", the version of the format,
// the kind of message, the sender's place, its incarnation and sequence number, the
// body, and the sender's signature over all of that and the cluster's name.
const (
	magic   = "PGA"
	version = 1

	maxPlace = 64      // bytes of a place's name
	maxBody  = 1 << 20 // bytes of a message: ballots on 10,000 targets
)

// Kind says what the body of a message is.
type Kind byte

// The kinds of messages.
const (
	Ballots Kind = 1 // what the sender says of targets; see Table
	Records Kind = 2 // orders and history, as JSON
	Lease   Kind = 3 // of the election of a writer
)

// Message is what one agent tells others.
type Message struct {
	From  string // the sender's place
	Stamp vote.Stamp
	Kind  Kind
	Body  []byte
}

// seal makes the envelope of a message.
func seal(m Message, cluster string, key ed25519.PrivateKey) []byte {
	b := make([]byte, 0, len(m.Body)+len(m.From)+ed25519.SignatureSize+32)
	b = append(b, magic...)
	b = append(b, version, byte(m.Kind))
	b = appendString(b, m.From)
	b = binary.AppendUvarint(b, m.Stamp.Incarnation)
	b = binary.AppendUvarint(b, m.Stamp.Seq)
	b = append(b, m.Body...)
	return append(b, ed25519.Sign(key, signed(b, cluster))...)
}

// signed is what the signature is over: one made for another cluster, or for
// something else with the same key, is not good here.
func signed(b []byte, cluster string) []byte {
	prefix := "pancake goavail\x00" + cluster + "\x00"
	return append([]byte(prefix), b...)
}

// open reads an envelope, whatever the network brings. It does not look at the
// signature, which verify does.
func open(b []byte) (Message, error) {
	if len(b) > maxBody+maxPlace+ed25519.SignatureSize+64 {
		return Message{}, broken("it has %d bytes", len(b))
	}
	if len(b) < len(magic)+2+ed25519.SignatureSize || string(b[:len(magic)]) != magic {
		return Message{}, broken("it is none of goavail's")
	}
	if v := b[len(magic)]; v != version {
		return Message{}, broken("it is of version %d, and this agent reads %d: run the same release everywhere", v, version)
	}
	m := Message{Kind: Kind(b[len(magic)+1])}
	d := decoder{b: b[len(magic)+2 : len(b)-ed25519.SignatureSize]}
	m.From = d.string(maxPlace)
	m.Stamp = vote.Stamp{Incarnation: d.uvarint(), Seq: d.uvarint()}
	m.Body = d.b
	return m, d.err
}

// verify says whether the envelope was signed with the key.
func verify(b []byte, cluster string, key ed25519.PublicKey) bool {
	end := len(b) - ed25519.SignatureSize
	return len(key) == ed25519.PublicKeySize && end > 0 && ed25519.Verify(key, signed(b[:end], cluster), b[end:])
}

func broken(format string, args ...any) error {
	return pancake.Errorf(pancake.Invalid, "a broken message: %s", fmt.Sprintf(format, args...))
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads one value after the other; after the first failure it only returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = broken("%s", what)
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail("a number is missing")
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("it ends too early")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uint64() uint64 {
	if len(d.b) < 8 {
		d.fail("it ends too early")
		return 0
	}
	n := binary.BigEndian.Uint64(d.b)
	d.b = d.b[8:]
	return n
}

func (d *decoder) string(limit int) string {
	n := d.uvarint()
	if n > uint64(limit) || n > uint64(len(d.b)) {
		d.fail("a text is too long")
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
