package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// maxDepth bounds how deep arrays and maps of a message may nest. memberlist's
// own nest once.
const maxDepth = 8

// field is one entry of a msgpack map: its key, and key and value as they are on the wire.
type field struct {
	key        string
	raw, value []byte
}

// object reads one msgpack object and returns its bytes, at most limit of them.
func object(r *reader, limit int) ([]byte, error) {
	var out bytes.Buffer
	if err := r.copyObject(&out, limit, maxDepth); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// reader is what objects are read from.
type reader struct{ io.Reader }

func (r *reader) copyObject(out *bytes.Buffer, limit, depth int) error {
	if depth == 0 {
		return fmt.Errorf("%w: objects nest too deep", ErrMalformed)
	}
	if err := r.copyBytes(out, limit, 1); err != nil {
		return err
	}
	size, children, err := r.shape(out, limit)
	if err != nil {
		return err
	}
	if err := r.copyBytes(out, limit, size); err != nil {
		return err
	}
	for range children {
		if err := r.copyObject(out, limit, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// shape reads the length of the object whose first byte is the last of out: how
// many bytes of content follow, and how many objects after these.
func (r *reader) shape(out *bytes.Buffer, limit int) (size, children int, err error) {
	b := out.Bytes()[out.Len()-1]
	length := func(width int) (int, error) {
		if err := r.copyBytes(out, limit, width); err != nil {
			return 0, err
		}
		var n [8]byte
		copy(n[8-width:], out.Bytes()[out.Len()-width:])
		return int(binary.BigEndian.Uint32(n[4:])), nil // never more than 4 bytes
	}
	switch {
	case b <= 0x7f || b >= 0xe0 || b == 0xc0 || b == 0xc2 || b == 0xc3: // small numbers, nil, booleans
		return 0, 0, nil
	case b <= 0x8f:
		return 0, 2 * int(b&0x0f), nil
	case b <= 0x9f:
		return 0, int(b & 0x0f), nil
	case b <= 0xbf:
		return int(b & 0x1f), 0, nil
	case b >= 0xc4 && b <= 0xc6: // bin
		size, err = length(1 << (b - 0xc4))
	case b == 0xca || b == 0xcb: // floats
		size = 4 << (b - 0xca)
	case b >= 0xcc && b <= 0xcf: // unsigned
		size = 1 << (b - 0xcc)
	case b >= 0xd0 && b <= 0xd3: // signed
		size = 1 << (b - 0xd0)
	case b >= 0xd9 && b <= 0xdb: // strings, called raw before there was bin
		size, err = length(1 << (b - 0xd9))
	case b == 0xdc || b == 0xdd:
		children, err = length(2 << (b - 0xdc))
	case b == 0xde || b == 0xdf:
		children, err = length(2 << (b - 0xde))
		children *= 2
	default: // extensions, which memberlist never sends
		err = fmt.Errorf("%w: 0x%02x begins no object", ErrMalformed, b)
	}
	return size, children, err
}

// copyBytes takes n bytes. It allocates only for those that really come.
func (r *reader) copyBytes(out *bytes.Buffer, limit, n int) error {
	if n > limit-out.Len() {
		return fmt.Errorf("%w: an object of more than %d bytes", ErrMalformed, limit)
	}
	if _, err := io.CopyN(out, r, int64(n)); err != nil {
		return fmt.Errorf("%w: cut short: %w", ErrMalformed, err)
	}
	return nil
}

// fields takes a map apart.
func fields(obj []byte) ([]field, error) {
	count, start, err := mapHeader(obj)
	if err != nil {
		return nil, err
	}
	rest := obj[start:]
	var out []field
	for range count {
		key, err := object(&reader{bytes.NewReader(rest)}, len(rest))
		if err != nil {
			return nil, err
		}
		value, err := object(&reader{bytes.NewReader(rest[len(key):])}, len(rest)-len(key))
		if err != nil {
			return nil, err
		}
		size := len(key) + len(value)
		out = append(out, field{key: string(text(key)), raw: rest[:size], value: value})
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the message", ErrMalformed, len(rest))
	}
	return out, nil
}

// mapHeader returns how many entries a map has and where they begin.
func mapHeader(b []byte) (count, start int, err error) {
	switch {
	case len(b) >= 1 && b[0]&0xf0 == 0x80:
		return int(b[0] & 0x0f), 1, nil
	case len(b) >= 3 && b[0] == 0xde:
		return int(binary.BigEndian.Uint16(b[1:])), 3, nil
	}
	return 0, 0, fmt.Errorf("%w: no map", ErrMalformed)
}

// appendMap puts a map together from n entries as they are on the wire.
func appendMap(out []byte, n int, entries ...[]byte) []byte {
	if n <= 0x0f {
		out = append(out, 0x80|byte(n))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, 0xde), uint16(n))
	}
	for _, e := range entries {
		out = append(out, e...)
	}
	return out
}

// text returns the content of a string or of bytes, nil for anything else.
func text(obj []byte) []byte {
	if len(obj) == 0 {
		return nil
	}
	header := 0
	switch b := obj[0]; {
	case b&0xe0 == 0xa0:
		header = 1
	case b >= 0xc4 && b <= 0xc6:
		header = 1 + 1<<(b-0xc4)
	case b >= 0xd9 && b <= 0xdb:
		header = 1 + 1<<(b-0xd9)
	default:
		return nil
	}
	return obj[min(header, len(obj)):]
}

// number returns a whole number, 0 for anything else and for what is below 0.
func number(obj []byte) uint64 {
	if len(obj) == 1 && obj[0] <= 0x7f {
		return uint64(obj[0])
	}
	if len(obj) < 2 || len(obj) > 9 || obj[0] < 0xcc || obj[0] > 0xd3 {
		return 0
	}
	if obj[0] >= 0xd0 && obj[1] >= 0x80 { // signed, and its sign is set
		return 0
	}
	var n [8]byte
	copy(n[9-len(obj):], obj[1:])
	return binary.BigEndian.Uint64(n[:])
}

// appendText writes a string as msgpack did before it had bytes of their own,
// which is what memberlist speaks.
func appendText(out []byte, s string) []byte {
	if len(s) <= 31 {
		out = append(out, 0xa0|byte(len(s)))
	} else {
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(len(s)))
	}
	return append(out, s...)
}
