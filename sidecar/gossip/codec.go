package gossip

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// A text is written once per message: a literal the first time, then its place
// in the table of texts. The table begins with these, which must never change
// within a version.
var commonTexts = []string{"", "http", "tcp", "udp", "ws", "traefik.enable", "true", "grpc"}

// What a text begins with.
const (
	textNew     = 0 // a literal, which enters the table
	textOnce    = 1 // a literal, which does not: it is hardly repeated
	textHex     = 2 // the same, of hexadecimal digits, two in a byte
	textKnown   = 3 // + place in the table
	maxTexts    = 1 << 16
	maxRecord   = 64 << 10        // bytes of one record; labels take most of it
	firstMoment = -62_135_596_800 // the years 1 to 9999, in seconds since 1970
	lastMoment  = 253_402_300_799
)

// encoder writes one message. Texts and times refer to what came before them.
type encoder struct {
	b     []byte
	body  []byte // of the record that is being written
	table map[string]uint64
	added []string // to the table, by the last record
	last  int64    // the time that was written last, in seconds
}

func newEncoder(kind byte) *encoder {
	e := &encoder{b: append(make([]byte, 0, packetSize), magic...), table: make(map[string]uint64, 64)}
	e.b = append(e.b, version, kind)
	for i, text := range commonTexts {
		e.table[text] = uint64(i)
	}
	return e
}

// add appends a record and reports whether the message keeps within limit;
// if not, it is as before. Limit 0 is none.
func (e *encoder) add(s *pancake.Service, limit int) bool {
	last := e.last
	e.added = e.added[:0]
	e.body = e.record(e.body[:0], s)
	if n := len(e.b) + len(e.body) + uvarintLen(len(e.body)); limit > 0 && n > limit {
		e.last = last
		for _, text := range e.added {
			delete(e.table, text)
		}
		return false
	}
	e.b = binary.AppendUvarint(e.b, uint64(len(e.body)))
	e.b = append(e.b, e.body...)
	return true
}

func uvarintLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

func (e *encoder) record(b []byte, s *pancake.Service) []byte {
	b = append(b, byte(s.Status))
	b = e.text(b, s.Hostname)
	b = e.once(b, s.ID)
	b = e.text(b, s.Name)
	b = e.text(b, s.Image)
	b = e.text(b, s.ProxyMode)
	b = e.once(b, s.Task)
	b = e.time(b, s.Updated)
	updated := e.last
	b = e.time(b, s.Created)
	e.last = updated
	b = binary.AppendUvarint(b, uint64(len(s.Ports)))
	for _, p := range s.Ports {
		b = e.text(b, p.Type)
		b = binary.AppendUvarint(b, uint64(p.Port))
		b = binary.AppendUvarint(b, uint64(p.ServicePort))
		b = e.text(b, p.IP)
		b = binary.AppendUvarint(b, uint64(p.ContainerPort))
	}
	b = binary.AppendUvarint(b, uint64(len(s.Labels)))
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		b = e.text(b, k)
		b = e.text(b, s.Labels[k])
	}
	return b
}

func (e *encoder) text(b []byte, s string) []byte {
	if i, known := e.table[s]; known {
		return binary.AppendUvarint(b, textKnown+i)
	}
	if len(e.table) >= maxTexts {
		return literal(append(b, textOnce), s)
	}
	e.table[s] = uint64(len(e.table))
	e.added = append(e.added, s)
	return literal(append(b, textNew), s)
}

// once writes a text that is not expected again.
func (e *encoder) once(b []byte, s string) []byte {
	if i, known := e.table[s]; known {
		return binary.AppendUvarint(b, textKnown+i)
	}
	if isHex(s) {
		b = binary.AppendUvarint(append(b, textHex), uint64(len(s)/2))
		packed := len(b)
		b = append(b, make([]byte, len(s)/2)...)
		_, _ = hex.Decode(b[packed:], []byte(s)) // it is hexadecimal
		return b
	}
	return literal(append(b, textOnce), s)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0 && len(s)%2 == 0
}

func literal(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (e *encoder) time(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix()-e.last)
	e.last = t.Unix()
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// decoder reads one value after the other; after the first failure it only
// returns zeros.
type decoder struct {
	b     []byte
	table []string
	last  int64
	err   error
}

func newDecoder(b []byte) *decoder { return &decoder{b: b, table: slices.Clone(commonTexts)} }

// service reads a record and skips what a later version has appended to it.
func (d *decoder) service() pancake.Service {
	rest := d.b
	body := d.bytes(maxRecord)
	if d.err != nil {
		return pancake.Service{}
	}
	rest = rest[len(rest)-len(d.b):]
	d.b = body
	s := d.fields()
	if d.err == nil {
		d.b = rest
	}
	return s
}

func (d *decoder) fields() (s pancake.Service) {
	s.Status = pancake.ServiceStatus(d.byte())
	for _, text := range []*string{&s.Hostname, &s.ID, &s.Name, &s.Image, &s.ProxyMode, &s.Task} {
		*text = d.text(catalog.MaxText)
	}
	s.Updated = d.time()
	updated := d.last
	s.Created = d.time()
	d.last = updated
	for range d.count(catalog.MaxPorts) {
		s.Ports = append(s.Ports, pancake.ServicePort{
			Type: d.text(catalog.MaxText), Port: d.port(), ServicePort: d.port(), IP: d.text(catalog.MaxText), ContainerPort: d.port(),
		})
	}
	if n := d.count(catalog.MaxLabels); n > 0 {
		s.Labels = make(map[string]string, n)
		for range n {
			k := d.text(catalog.MaxLabelBytes)
			s.Labels[k] = d.text(catalog.MaxLabelBytes)
		}
	}
	return s
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = pancake.Errorf(pancake.Invalid, "a broken message: %s", fmt.Sprintf(format, args...))
	}
	d.b = nil
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

func (d *decoder) fixed64() uint64 {
	if len(d.b) < 8 {
		d.fail("it ends too early")
		return 0
	}
	n := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return n
}

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

func (d *decoder) text(limit int) string {
	switch kind := d.uvarint(textKnown + maxTexts); kind {
	case textNew:
		s := string(d.bytes(limit))
		if len(d.table) >= maxTexts {
			d.fail("more than %d texts", maxTexts)
			return ""
		}
		d.table = append(d.table, s)
		return s
	case textOnce:
		return string(d.bytes(limit))
	case textHex:
		return hex.EncodeToString(d.bytes(limit / 2))
	default:
		i := kind - textKnown
		if i >= uint64(len(d.table)) || len(d.table[i]) > limit {
			d.fail("a text that is not in the table, or is too long here")
			return ""
		}
		return d.table[i]
	}
}

func (d *decoder) time() time.Time {
	delta, size := binary.Varint(d.b)
	sec := d.last + delta
	if size <= 0 || sec < firstMoment || sec > lastMoment {
		d.fail("a time is missing or no calendar has it")
		return time.Time{}
	}
	d.b, d.last = d.b[size:], sec
	return time.Unix(sec, int64(d.uvarint(999_999_999))).UTC()
}
