// Package wire is the difference between memberlist and the fork of it that
// NinesStack Sidecar carries. The fork adds a field, ClusterName, to the
// messages about members and to the header of an exchange of states, and drops
// what names another cluster or none.
//
// A Cluster adds that field to what a stock memberlist sends, and checks and
// takes it off what it receives. The package touches bytes only; Transport puts
// it between memberlist and the network.
package wire

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/pancake-stack/pancake"
)

// The reasons for which a message is refused.
var (
	ErrMalformed    = errors.New("malformed message")
	ErrWrongCluster = errors.New("message of another cluster")
	ErrEncrypted    = errors.New("encrypted message, which NinesStack Sidecar never sends")
	ErrTooLarge     = errors.New("more than is taken")
)

// Cause names the reason for which something was refused, "" for an error of
// another kind, such as the end of a connection.
func Cause(err error) string {
	switch {
	case errors.Is(err, ErrWrongCluster):
		return "cluster"
	case errors.Is(err, ErrEncrypted):
		return "encrypted"
	case errors.Is(err, ErrTooLarge):
		return "oversized"
	case errors.Is(err, ErrMalformed):
		return "malformed"
	}
	return ""
}

// The message types of memberlist.
const (
	ping         = 0
	indirectPing = 1
	ack          = 2
	suspect      = 3
	alive        = 4
	dead         = 5
	pushPull     = 6
	compound     = 7
	user         = 8
	compressed   = 9
	encrypted    = 10
	nack         = 11
	checksummed  = 12
)

const (
	fieldName = "ClusterName"
	// maxPacket is the most that a UDP packet holds, also once unpacked.
	maxPacket = 64 << 10
	// maxState bounds the JSON of a state: about 60,000 services. It is memberlist's
	// own bound.
	maxState = 20 << 20
	// maxStream bounds all that comes over one connection, packed and unpacked: a
	// state, and as much again for the list of members.
	maxStream = 2 * maxState
	// maxHeader bounds the header of a state, which has four fields.
	maxHeader = 4 << 10
	// maxWraps bounds how often a packet wraps another: a checksum around
	// compression around a compound message is what there is.
	maxWraps = 4
	// maxName bounds a cluster's name.
	maxName = 255
)

// Cluster adds and checks the name of one cluster.
type Cluster struct {
	name string
	pair []byte // the field, as it is in a map
}

// NewCluster makes a Cluster. It fails with Invalid for a name that is empty or
// has more than 255 bytes.
func NewCluster(name string) (*Cluster, error) {
	if name == "" || len(name) > maxName {
		return nil, pancake.Errorf(pancake.Invalid, "the name of the old cluster needs 1 to %d bytes, %q has %d", maxName, name, len(name))
	}
	return &Cluster{name: name, pair: appendText(appendText(nil, fieldName), name)}, nil
}

// Seal adds the cluster's name to a packet that memberlist wants to send.
func (c *Cluster) Seal(packet []byte) ([]byte, error) { return c.seal(packet, maxWraps) }

func (c *Cluster) seal(b []byte, wraps int) ([]byte, error) {
	if len(b) == 0 || wraps == 0 {
		return nil, fmt.Errorf("%w: empty, or wrapped too often", ErrMalformed)
	}
	switch b[0] {
	case suspect, alive, dead:
		return c.insert(b)
	case compound:
		parts, err := split(b)
		if err != nil {
			return nil, err
		}
		for i := range parts {
			if parts[i], err = c.seal(parts[i], wraps-1); err != nil {
				return nil, err
			}
		}
		return join(parts)
	case checksummed:
		inner, err := checked(b)
		if err != nil {
			return nil, err
		}
		if inner, err = c.seal(inner, wraps-1); err != nil {
			return nil, err
		}
		out := binary.BigEndian.AppendUint32([]byte{checksummed}, crc32.ChecksumIEEE(inner))
		return append(out, inner...), nil
	case compressed:
		return nil, fmt.Errorf("%w: compressed before the cluster's name was added", ErrMalformed)
	}
	return b, nil
}

// SealStream adds the cluster's name to what memberlist writes to a connection,
// if that is a state.
func (c *Cluster) SealStream(message []byte) ([]byte, error) {
	if len(message) == 0 || message[0] != pushPull {
		return message, nil
	}
	return c.insert(message)
}

// insert puts the field first into the map that follows the type of a message.
func (c *Cluster) insert(message []byte) ([]byte, error) {
	count, start, err := mapHeader(message[1:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(message)+len(c.pair)+2)
	return appendMap(append(out, message[0]), count+1, c.pair, message[1+start:]), nil
}

// Open takes a packet apart that came from a peer: the messages in it, without
// the cluster's name, as memberlist reads them. Those of another cluster and
// those that are broken are left out; the error is about the first of these.
func (c *Cluster) Open(packet []byte) (messages [][]byte, err error) {
	if len(packet) > maxPacket {
		return nil, fmt.Errorf("%w: a packet of %d bytes", ErrMalformed, len(packet))
	}
	room := int64(maxPacket)
	err = c.open(packet, maxWraps, &room, func(m []byte) { messages = append(messages, m) })
	return messages, err
}

// open takes a part of a packet apart. room is what the packet may still unpack to.
func (c *Cluster) open(b []byte, wraps int, room *int64, emit func([]byte)) error {
	if len(b) == 0 || wraps == 0 {
		return fmt.Errorf("%w: empty, or wrapped too often", ErrMalformed)
	}
	switch b[0] {
	case ping, indirectPing, ack, nack, user:
		emit(b)
		return nil
	case suspect, alive, dead:
		bare, err := c.remove(b[1:])
		if err == nil {
			emit(append([]byte{b[0]}, bare...))
		}
		return err
	case compound:
		parts, first := split(b)
		for _, part := range parts {
			if err := c.open(part, wraps-1, room, emit); err != nil && first == nil {
				first = err
			}
		}
		return first
	case checksummed:
		inner, err := checked(b)
		if err != nil {
			return err
		}
		return c.open(inner, wraps-1, room, emit)
	case compressed:
		inner, err := decompress(b[1:], *room)
		if err != nil {
			*room = 0 // it may have cost all of it
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		*room -= int64(len(inner))
		return c.open(inner, wraps-1, room, emit)
	case encrypted:
		return ErrEncrypted
	}
	return fmt.Errorf("%w: type %d", ErrMalformed, b[0])
}

// OpenStream reads the beginning of what a peer sends over a connection and
// returns a reader of all of it, as memberlist reads it.
func (c *Cluster) OpenStream(from io.Reader) (io.Reader, error) {
	buffered := bufio.NewReader(&bounded{from, maxStream})
	first, err := buffered.ReadByte()
	if err != nil {
		return nil, err // memberlist knows what an early end means
	}
	if first == compressed {
		packed, err := object(&reader{buffered}, maxStream)
		if err != nil {
			return nil, err
		}
		plain, err := decompress(packed, maxStream)
		if err != nil {
			return nil, err
		}
		if len(plain) == 0 {
			return nil, fmt.Errorf("%w: nothing is compressed", ErrMalformed)
		}
		first, buffered = plain[0], bufio.NewReader(bytes.NewReader(plain[1:]))
	}
	head := []byte{first}
	switch first {
	case pushPull:
		header, err := object(&reader{buffered}, maxHeader)
		if err != nil {
			return nil, err
		}
		bare, err := c.remove(header)
		if err != nil {
			return nil, err
		}
		if n := stateLength(header); n > maxState {
			return nil, fmt.Errorf("%w: a state of %d bytes; %d MiB are taken, which is about 60,000 services", ErrTooLarge, n, maxState>>20)
		}
		head = append(head, bare...)
	case encrypted:
		return nil, ErrEncrypted
	}
	return io.MultiReader(bytes.NewReader(head), buffered), nil
}

// remove takes the cluster's name off a map, in which it has to be.
func (c *Cluster) remove(obj []byte) ([]byte, error) {
	all, err := fields(obj)
	if err != nil {
		return nil, err
	}
	name, rest := []byte(nil), make([][]byte, 0, len(all))
	for _, f := range all {
		if f.key == fieldName {
			name = text(f.value)
			continue
		}
		rest = append(rest, f.raw)
	}
	if string(name) != c.name {
		return nil, fmt.Errorf("%w: it names %.80q, not %q", ErrWrongCluster, name, c.name)
	}
	return appendMap(nil, len(rest), rest...), nil
}

// split takes a compound message apart: its count, the length of each part, the
// parts. Those that are whole are returned with the error about one that is not.
func split(b []byte) ([][]byte, error) {
	if len(b) < 2 || len(b) < 2+2*int(b[1]) {
		return nil, fmt.Errorf("%w: a compound message is cut short", ErrMalformed)
	}
	count := int(b[1])
	lengths, rest := b[2:2+2*count], b[2+2*count:]
	parts := make([][]byte, 0, count)
	for i := range count {
		n := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if n > len(rest) {
			return parts, fmt.Errorf("%w: %d of %d parts of a compound message are missing", ErrMalformed, count-i, count)
		}
		parts = append(parts, rest[:n:n])
		rest = rest[n:]
	}
	return parts, nil
}

// join is the opposite of split.
func join(parts [][]byte) ([]byte, error) {
	out := []byte{compound, byte(len(parts))}
	for _, p := range parts {
		if len(p) > 0xffff {
			return nil, fmt.Errorf("%w: a part of %d bytes", ErrMalformed, len(p))
		}
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	}
	return append(out, slices.Concat(parts...)...), nil
}

// checked returns what a checksum is about.
func checked(b []byte) ([]byte, error) {
	if len(b) < 5 || binary.BigEndian.Uint32(b[1:]) != crc32.ChecksumIEEE(b[5:]) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrMalformed)
	}
	return b[5:], nil
}

// decompress unpacks {Algo, Buf}. Algorithm 0, LZW, is the only one there is.
func decompress(obj []byte, limit int64) ([]byte, error) {
	all, err := fields(obj)
	if err != nil {
		return nil, err
	}
	var packed []byte
	for _, f := range all {
		switch {
		case f.key == "Buf":
			packed = text(f.value)
		case f.key == "Algo" && !bytes.Equal(f.value, []byte{0}):
			return nil, fmt.Errorf("%w: compressed by an unknown algorithm", ErrMalformed)
		}
	}
	unpack := lzw.NewReader(bytes.NewReader(packed), lzw.LSB, 8)
	defer unpack.Close()
	plain, err := io.ReadAll(io.LimitReader(unpack, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if int64(len(plain)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes once unpacked", ErrTooLarge, limit)
	}
	return plain, nil
}

// bounded reads at most left bytes. More of them are an error, not an end: a part of a
// state must not pass for the whole.
type bounded struct {
	io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: a connection with more than %d MiB", ErrTooLarge, maxStream>>20)
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// stateLength is what the header of a state says of its length in bytes, 0 if it says nothing.
func stateLength(header []byte) uint64 {
	all, err := fields(header)
	if err != nil {
		return 0
	}
	for _, f := range all {
		if f.key == "UserStateLen" {
			return number(f.value)
		}
	}
	return 0
}
