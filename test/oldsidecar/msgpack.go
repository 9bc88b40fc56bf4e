package oldsidecar

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The messages are maps in the msgpack of before it told bytes from strings.
// This is as much of it as they need.

var errMsgpack = errors.New("not the msgpack of a message")

// entry is a field of a message; value is an int, bool, string, []byte or nil.
type entry struct {
	name  string
	value any
}

func pack(out []byte, entries ...entry) []byte {
	out = append(out, 0x80+byte(len(entries)))
	for _, e := range entries {
		out = packRaw(out, e.name)
		switch v := e.value.(type) {
		case nil:
			out = append(out, 0xc0)
		case bool:
			if v {
				out = append(out, 0xc3)
			} else {
				out = append(out, 0xc2)
			}
		case int:
			out = packInt(out, v)
		case string:
			out = packRaw(out, v)
		case []byte:
			if v == nil {
				out = append(out, 0xc0)
			} else {
				out = packRaw(out, string(v))
			}
		}
	}
	return out
}

func packInt(out []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(out, byte(n))
	case n < 0x100:
		return append(out, 0xcc, byte(n))
	case n < 0x10000:
		return binary.BigEndian.AppendUint16(append(out, 0xcd), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(out, 0xce), uint32(n))
}

func packRaw(out []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		out = append(out, 0xa0+byte(n))
	case n < 0x10000:
		out = binary.BigEndian.AppendUint16(append(out, 0xda), uint16(n))
	default:
		out = binary.BigEndian.AppendUint32(append(out, 0xdb), uint32(n))
	}
	return append(out, s...)
}

// message is a map that was read. Missing fields are zero.
type message map[string]any

func (m message) str(name string) string {
	s, _ := m[name].(string)
	return s
}

func (m message) num(name string) int {
	n, _ := m[name].(int)
	return n
}

func (m message) flag(name string) bool {
	b, _ := m[name].(bool)
	return b
}

// unpack reads one map.
func unpack(r *bufio.Reader) (message, error) {
	b, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if b&0xf0 != 0x80 {
		return nil, fmt.Errorf("%w: 0x%02x begins no map", errMsgpack, b)
	}
	m := message{}
	for range b & 0x0f {
		name, err := unpackValue(r)
		if err != nil {
			return nil, err
		}
		value, err := unpackValue(r)
		if err != nil {
			return nil, err
		}
		key, ok := name.(string)
		if !ok {
			return nil, errMsgpack
		}
		m[key] = value
	}
	return m, nil
}

// unpackValue reads an int, bool, nil or string.
func unpackValue(r *bufio.Reader) (any, error) {
	b, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	number := func(width int) (int, error) {
		var buf [8]byte
		_, err := io.ReadFull(r, buf[8-width:])
		return int(binary.BigEndian.Uint64(buf[:])), err
	}
	raw := func(n int, err error) (any, error) {
		if err != nil || n > 64<<20 {
			return nil, errMsgpack
		}
		buf := make([]byte, n)
		_, err = io.ReadFull(r, buf)
		return string(buf), err
	}
	switch {
	case b < 0x80:
		return int(b), nil
	case b&0xe0 == 0xa0:
		return raw(int(b&0x1f), nil)
	case b == 0xc0:
		return nil, nil
	case b == 0xc2, b == 0xc3:
		return b == 0xc3, nil
	case b >= 0xcc && b <= 0xcf:
		return number(1 << (b - 0xcc))
	case b >= 0xd0 && b <= 0xd3: // memberlist has no negative numbers
		return number(1 << (b - 0xd0))
	case b == 0xda, b == 0xdb:
		return raw(number(2 << (b - 0xda)))
	}
	return nil, fmt.Errorf("%w: 0x%02x", errMsgpack, b)
}
