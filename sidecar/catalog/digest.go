package catalog

import (
	"encoding/binary"

	"github.com/pancake-stack/pancake"
)

// Hash is the fingerprint of a record: over all that is gossiped. Equal records
// have equal hashes on all hosts of a release. Sums of hashes are digests.
func Hash(s *pancake.Service) uint64 {
	h := fnv(offset64)
	for _, text := range []string{s.Hostname, s.ID, s.Name, s.Image, s.ProxyMode, s.Task} {
		h = h.text(text)
	}
	h = h.number(uint64(s.Status))
	h = h.number(uint64(s.Updated.Unix())).number(uint64(s.Updated.Nanosecond()))
	h = h.number(uint64(s.Created.Unix())).number(uint64(s.Created.Nanosecond()))
	h = h.number(uint64(len(s.Ports)))
	for _, p := range s.Ports {
		h = h.text(p.Type).number(uint64(p.Port)).number(uint64(p.ServicePort)).text(p.IP).number(uint64(p.ContainerPort))
	}
	labels := uint64(0) // a sum, since maps have no order
	for k, v := range s.Labels {
		labels += fnv(offset64).text(k).text(v).mixed()
	}
	return h.number(labels).mixed()
}

// fnv is FNV-1a, 64 bits, without the allocation of hash/fnv.
type fnv uint64

const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

func (h fnv) text(s string) fnv {
	h = h.number(uint64(len(s)))
	for i := range len(s) {
		h = (h ^ fnv(s[i])) * prime64
	}
	return h
}

func (h fnv) number(n uint64) fnv {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	for _, c := range b {
		h = (h ^ fnv(c)) * prime64
	}
	return h
}

// mixed spreads the bits (MurmurHash3's last step), so that sums of hashes are
// as good as hashes.
func (h fnv) mixed() uint64 {
	x := uint64(h)
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
