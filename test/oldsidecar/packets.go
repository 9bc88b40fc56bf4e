package oldsidecar

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"slices"
)

// send makes a packet as memberlist does: compound, compressed if that is
// shorter, with a checksum for those who understand it.
func (p *Peer) send(address string, vsn []byte, parts ...[]byte) {
	msg := parts[0]
	if len(parts) > 1 {
		msg = []byte{tCompound, byte(len(parts))}
		for _, part := range parts {
			msg = binary.BigEndian.AppendUint16(msg, uint16(len(part)))
		}
		msg = append(msg, slices.Concat(parts...)...)
	}
	if small := compress(msg); len(small) < len(msg) {
		msg = small
	}
	if len(vsn) > 1 && vsn[1] >= 5 {
		msg = append(binary.BigEndian.AppendUint32([]byte{tCRC}, crc32.ChecksumIEEE(msg)), msg...)
	}
	if to, err := net.ResolveUDPAddr("udp", address); err == nil {
		_, _ = p.udp.WriteToUDP(msg, to) // it may be lost on the way as well
	}
}

func compress(msg []byte) []byte {
	var buf bytes.Buffer
	w := lzw.NewWriter(&buf, lzw.LSB, 8)
	_, _ = w.Write(msg) // to memory
	_ = w.Close()
	return pack([]byte{tCompress}, entry{"Algo", 0}, entry{"Buf", buf.Bytes()})
}

func decompress(b []byte) ([]byte, error) {
	m, err := unpack(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(lzw.NewReader(bytes.NewReader([]byte(m.str("Buf"))), lzw.LSB, 8))
}

func (p *Peer) receive(ctx context.Context) error {
	buf := make([]byte, 65536)
	for {
		n, from, err := p.udp.ReadFromUDP(buf)
		if err != nil {
			return quiet(ctx, err)
		}
		b := bytes.Clone(buf[:n])
		if len(b) > 5 && b[0] == tCRC {
			if crc32.ChecksumIEEE(b[5:]) != binary.BigEndian.Uint32(b[1:]) {
				p.refuse(errors.New("wrong checksum"))
				continue
			}
			b = b[5:]
		}
		p.handle(b, from.String())
	}
}

func (p *Peer) refuse(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Refused++
	p.cfg.Log.Info("refused", "err", err)
}

func (p *Peer) handle(b []byte, from string) {
	if err := p.handleOne(b, from); err != nil {
		p.refuse(err)
	}
}

func (p *Peer) handleOne(b []byte, from string) error {
	if len(b) < 2 {
		return errMsgpack
	}
	switch b[0] {
	case tCompound:
		n := int(b[1])
		if len(b) < 2+2*n {
			return errMsgpack
		}
		rest := b[2+2*n:]
		for i := range n {
			size := int(binary.BigEndian.Uint16(b[2+2*i:]))
			if size > len(rest) {
				return errMsgpack
			}
			p.handle(rest[:size], from)
			rest = rest[size:]
		}
		return nil
	case tCompress:
		plain, err := decompress(b[1:])
		if err != nil {
			return err
		}
		p.handle(plain, from)
		return nil
	case tUser:
		return p.heardService(b[1:])
	}
	m, err := unpack(bufio.NewReader(bytes.NewReader(b[1:])))
	if err != nil {
		return err
	}
	return p.news(b[0], m, from)
}
