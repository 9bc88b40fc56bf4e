package catalog

import (
	"cmp"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/pancake-stack/pancake"
)

// Compare orders two records of one service: the greater one wins. The order is
// total over everything that is gossiped, so that two catalogues which have seen
// the same records hold the same records, whatever order these came in.
//
// The later Updated wins. At equal times the more careful status wins, so that
// a service that is gone cannot be brought back by its own last sign of life.
// The rest only breaks ties.
func Compare(a, b *pancake.Service) int {
	if c := a.Updated.Compare(b.Updated); c != 0 { // nearly always, so the rest is not looked at
		return c
	}
	return cmp.Or(cmp.Compare(rank(a.Status), rank(b.Status)), compareContent(a, b))
}

// rank orders the statuses by how careful it is to believe them.
func rank(s pancake.ServiceStatus) int {
	switch s {
	case pancake.Alive:
		return 0
	case pancake.Unknown:
		return 1
	case pancake.Sick:
		return 2
	case pancake.Draining:
		return 3
	}
	return 4 // Tombstone
}

// compareContent orders by all fields that are gossiped but Updated and Status.
func compareContent(a, b *pancake.Service) int {
	return cmp.Or(
		cmp.Compare(a.Hostname, b.Hostname),
		cmp.Compare(a.ID, b.ID),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Image, b.Image),
		a.Created.Compare(b.Created),
		cmp.Compare(a.ProxyMode, b.ProxyMode),
		cmp.Compare(a.Task, b.Task),
		slices.CompareFunc(a.Ports, b.Ports, comparePort),
		compareLabels(a.Labels, b.Labels),
	)
}

func comparePort(a, b pancake.ServicePort) int {
	return cmp.Or(
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.ServicePort, b.ServicePort),
		cmp.Compare(a.IP, b.IP),
		cmp.Compare(a.ContainerPort, b.ContainerPort),
	)
}

func compareLabels(a, b map[string]string) int {
	if maps.Equal(a, b) {
		return 0 // the usual case, without sorting
	}
	ka, kb := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))
	if c := slices.Compare(ka, kb); c != 0 {
		return c
	}
	for _, k := range ka {
		if c := cmp.Compare(a[k], b[k]); c != 0 {
			return c
		}
	}
	return 0
}

// The limits of one record. They keep a broken or hostile peer from filling
// the memory, and are far above what containers have.
const (
	MaxText       = 512     // bytes of a name, an id, an image, an address
	MaxPorts      = 128     // ports of a service
	MaxLabels     = 128     // labels of a service
	MaxLabelBytes = 8 << 10 // bytes of all labels together, keys and values
)

// Valid reports whether a record that came from elsewhere may be taken. The
// error says what is wrong with it.
func Valid(s *pancake.Service) error {
	bad := func(format string, args ...any) error {
		return pancake.Errorf(pancake.Invalid, format, args...)
	}
	if s.Hostname == "" || s.ID == "" {
		return bad("a record without host or id")
	}
	for _, text := range []string{s.Hostname, s.ID, s.Name, s.Image, s.ProxyMode, s.Task} {
		if len(text) > MaxText || !utf8.ValidString(text) {
			return bad("a text of more than %d bytes, or not UTF-8", MaxText)
		}
	}
	if s.Status < pancake.Alive || s.Status > pancake.Draining {
		return bad("status %d does not exist", s.Status)
	}
	if !validTime(s.Updated) || !validTime(s.Created) {
		return bad("a time that no calendar has")
	}
	if len(s.Ports) > MaxPorts {
		return bad("%d ports; %d are allowed", len(s.Ports), MaxPorts)
	}
	for _, p := range s.Ports {
		if !validPort(p.Port) || !validPort(p.ServicePort) || !validPort(p.ContainerPort) ||
			len(p.IP) > MaxText || len(p.Type) > MaxText || !utf8.ValidString(p.IP) || !utf8.ValidString(p.Type) {
			return bad("port %d does not exist", p.Port)
		}
	}
	return ValidLabels(s.Labels)
}

// ValidLabels reports whether a service's labels keep within the limits.
func ValidLabels(labels map[string]string) error {
	size := 0
	for k, v := range labels {
		size += len(k) + len(v)
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return pancake.Errorf(pancake.Invalid, "a label that is not UTF-8")
		}
	}
	if len(labels) > MaxLabels || size > MaxLabelBytes {
		return pancake.Errorf(pancake.Invalid, "%d labels of %d bytes; %d of %d bytes together are allowed",
			len(labels), size, MaxLabels, MaxLabelBytes)
	}
	return nil
}

func validPort(n int64) bool { return n >= 0 && n <= 65535 }

// validTime keeps to the years that RFC 3339, and so JSON, can write.
func validTime(t time.Time) bool { return t.Year() >= 1 && t.Year() <= 9999 }
