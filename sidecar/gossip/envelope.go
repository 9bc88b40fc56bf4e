package gossip

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"

	"github.com/pancake-stack/pancake"
)

// What travels between two Sidecars begins with "PNK", the version of the
// format and the kind of the message, with a bit that says that the rest is
// compressed. Each record carries its length, so that a later release may append
// fields to it which this one skips.
const (
	magic     = "PNK"
	version   = 2
	headerLen = len(magic) + 2

	kindRecords = 1 // records, up to the end
	kindGoodbye = 2 // the name of a host that leaves
	kindPause   = 3 // the name of a host that will be back within pauseFor
	kindForget  = 4 // the name of a host that an operator declares gone
	kindMirror  = 5 // the hosts for which a bridge speaks, with their digests
	kindCompare = 6 // a step of a comparison

	compressed = 0x80

	// compressFrom is the size in bytes from which compression pays: below it
	// the saving is less than a packet.
	compressFrom = 2 << 10
	// maxMessage bounds a message, and what is unpacked from it, in bytes; chunk is
	// how much we put into one.
	maxMessage = 8 << 20
	chunk      = 1 << 20
	// maxState bounds a whole state: 200,000 records of 300 bytes.
	maxState = 64 << 20
)

// packers hold about 1 MB each, so they are used again.
var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(io.Discard, flate.BestSpeed)
	if err != nil {
		panic(err) // only for a level that does not exist
	}
	return w
}}

// pack compresses a message if that pays.
func pack(b []byte) []byte {
	if len(b) < compressFrom {
		return b
	}
	out := bytes.NewBuffer(make([]byte, 0, len(b)/2))
	out.Write(b[:headerLen])
	w, ok := packers.Get().(*flate.Writer)
	if !ok {
		return b // cannot be: the pool makes nothing else
	}
	defer packers.Put(w)
	w.Reset(out)
	_, _ = w.Write(b[headerLen:]) // a bytes.Buffer takes everything
	_ = w.Close()
	z := out.Bytes()
	z[headerLen-1] |= compressed
	return z
}

// open checks a message and returns its kind and the rest, unpacked. It takes
// whatever the network brings and never reads or allocates beyond the limit.
func open(b []byte, limit int) (kind byte, body []byte, err error) {
	if len(b) < headerLen || string(b[:len(magic)]) != magic {
		return 0, nil, pancake.Errorf(pancake.Invalid, "not a message of Pancake's Sidecar")
	}
	if v := b[len(magic)]; v != version {
		return 0, nil, pancake.Errorf(pancake.Invalid, "a message of version %d; this Sidecar reads version %d: run the same release on all nodes", v, version)
	}
	kind, body = b[headerLen-1], b[headerLen:]
	if kind&compressed != 0 {
		if body, err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), int64(limit)+1)); err != nil {
			return 0, nil, pancake.Errorf(pancake.Invalid, "unpack a message: %w", err)
		}
	}
	if len(body) > limit {
		return 0, nil, pancake.Errorf(pancake.Invalid, "a message of more than %d bytes", limit)
	}
	return kind &^ compressed, body, nil
}

// named makes a message that says something of a host.
func named(kind byte, host string) []byte {
	e := newEncoder(kind)
	return literal(e.b, host)
}

// readName is what named has written.
func readName(body []byte) (string, error) {
	d := newDecoder(body)
	name := string(d.bytes(maxName))
	if d.err == nil && name == "" {
		d.fail("no name")
	}
	return name, d.err
}

// Encode makes the message that holds all records, compressed if it is large.
func Encode(records []*pancake.Service) []byte {
	e := newEncoder(kindRecords)
	for _, r := range records {
		e.add(r, 0)
	}
	return pack(e.b)
}

// Decode reads the records of a message of at most limit bytes once unpacked.
// It fails on what is broken, and on messages that hold something else.
func Decode(b []byte, limit int) ([]pancake.Service, error) {
	kind, body, err := open(b, limit)
	if err != nil {
		return nil, err
	}
	if kind != kindRecords {
		return nil, pancake.Errorf(pancake.Invalid, "a message of kind %d instead of records", kind)
	}
	return readRecords(newDecoder(body))
}

func readRecords(d *decoder) ([]pancake.Service, error) {
	var records []pancake.Service
	for len(d.b) > 0 {
		s := d.service()
		if d.err != nil {
			return nil, d.err
		}
		records = append(records, s)
	}
	return records, d.err
}
