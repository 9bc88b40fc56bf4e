package gossip

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// What travels between two Sidecars is an envelope: "PNK", the version of the
// format, flags, and then records up to the end, compressed if the flags say so.
// Each record carries its length, so that a later version may append fields to
// it which this one skips. A goodbye has the sender's name instead of records.
const (
	magic          = "PNK"
	version        = 1
	headerLen      = len(magic) + 2
	flagCompressed = 1 << 0
	flagGoodbye    = 1 << 1

	// compressFrom is the size in bytes from which compression pays: below it
	// the saving is less than a packet.
	compressFrom = 4 << 10
	// maxRecord bounds one record in bytes: labels take most of it.
	maxRecord = 64 << 10
)

var header = []byte{magic[0], magic[1], magic[2], version, 0}

// appendRecord appends one record to an envelope.
func appendRecord(b []byte, s *pancake.Service) []byte {
	body := make([]byte, 0, 256)
	body = append(body, byte(s.Status))
	for _, text := range []string{s.Hostname, s.ID, s.Name, s.Image, s.ProxyMode, s.Task} {
		body = appendString(body, text)
	}
	body = appendTime(body, s.Updated)
	body = appendTime(body, s.Created)
	body = binary.AppendUvarint(body, uint64(len(s.Ports)))
	for _, p := range s.Ports {
		body = appendString(body, p.Type)
		body = binary.AppendUvarint(body, uint64(p.Port))
		body = binary.AppendUvarint(body, uint64(p.ServicePort))
		body = appendString(body, p.IP)
		body = binary.AppendUvarint(body, uint64(p.ContainerPort))
	}
	body = binary.AppendUvarint(body, uint64(len(s.Labels)))
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		body = appendString(body, k)
		body = appendString(body, s.Labels[k])
	}
	b = binary.AppendUvarint(b, uint64(len(body)))
	return append(b, body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// Encode makes the envelope that holds all records, compressed if it is large.
func Encode(records []*pancake.Service) []byte {
	b := slices.Clone(header)
	for _, r := range records {
		b = appendRecord(b, r)
	}
	if len(b) < compressFrom {
		return b
	}
	var out bytes.Buffer
	out.Write(header)
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		return b // only for a level that does not exist
	}
	_, _ = w.Write(b[headerLen:]) // a bytes.Buffer takes everything
	_ = w.Close()
	z := out.Bytes()
	z[headerLen-1] |= flagCompressed
	return z
}

// goodbye makes the envelope in which a host says that it leaves.
func goodbye(name string) []byte {
	b := append(slices.Clone(header), name...)
	b[headerLen-1] |= flagGoodbye
	return b
}

// leaver returns who says goodbye, "" if b is something else.
func leaver(b []byte) string {
	if len(b) < headerLen || string(b[:headerLen-1]) != string(header[:headerLen-1]) || b[headerLen-1] != flagGoodbye {
		return ""
	}
	return string(b[headerLen:])
}

// Decode reads an envelope that holds at most limit bytes once unpacked. It
// takes whatever the network brings: it fails on what is broken and never
// reads or allocates beyond the limit.
func Decode(b []byte, limit int) ([]pancake.Service, error) {
	if len(b) < headerLen || string(b[:len(magic)]) != magic {
		return nil, pancake.Errorf(pancake.Invalid, "not a message of Pancake's Sidecar")
	}
	if v := b[len(magic)]; v != version {
		return nil, pancake.Errorf(pancake.Invalid, "a message of version %d; this Sidecar reads version %d: run the same release on all nodes", v, version)
	}
	flags, body := b[headerLen-1], b[headerLen:]
	if flags&flagCompressed != 0 {
		var err error
		if body, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), int64(limit)+1)); err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "unpack a message: %w", err)
		}
	}
	if len(body) > limit {
		return nil, pancake.Errorf(pancake.Invalid, "a message of more than %d bytes", limit)
	}
	var records []pancake.Service
	for len(body) > 0 {
		d := decoder{b: body}
		r := decoder{b: d.bytes(maxRecord)}
		if d.err != nil {
			return nil, d.err
		}
		s := r.service()
		if r.err != nil {
			return nil, r.err
		}
		records, body = append(records, s), d.b
	}
	return records, nil
}

// decoder reads one value after the other; after the first failure it only
// returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) service() pancake.Service {
	var s pancake.Service
	if len(d.b) == 0 {
		d.fail("an empty record")
		return s
	}
	s.Status, d.b = pancake.ServiceStatus(d.b[0]), d.b[1:]
	for _, text := range []*string{&s.Hostname, &s.ID, &s.Name, &s.Image, &s.ProxyMode, &s.Task} {
		*text = d.string(catalog.MaxText)
	}
	s.Updated, s.Created = d.time(), d.time()
	for range d.count(catalog.MaxPorts) {
		s.Ports = append(s.Ports, pancake.ServicePort{
			Type: d.string(catalog.MaxText), Port: d.port(), ServicePort: d.port(), IP: d.string(catalog.MaxText), ContainerPort: d.port(),
		})
	}
	if n := d.count(catalog.MaxLabels); n > 0 {
		s.Labels = make(map[string]string, n)
		for range n {
			k := d.string(catalog.MaxLabelBytes)
			s.Labels[k] = d.string(catalog.MaxLabelBytes)
		}
	}
	return s
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = pancake.Errorf(pancake.Invalid, "a broken record: %s", fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) uvarint(limit uint64) uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || n > limit {
		d.fail("a number is missing or above %d", limit)
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) count(limit int) int { return int(d.uvarint(uint64(limit))) }

func (d *decoder) port() int64 { return int64(d.uvarint(math.MaxUint16)) }

func (d *decoder) bytes(limit int) []byte {
	n := d.count(limit)
	if n > len(d.b) {
		d.fail("it ends too early")
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) string(limit int) string { return string(d.bytes(limit)) }

func (d *decoder) time() time.Time {
	sec, size := binary.Varint(d.b)
	// The years 1 to 9999, in seconds since 1970.
	if size <= 0 || sec < -62_135_596_800 || sec > 253_402_300_799 {
		d.fail("a time is missing or no calendar has it")
		return time.Time{}
	}
	d.b = d.b[size:]
	return time.Unix(sec, int64(d.uvarint(999_999_999))).UTC()
}
