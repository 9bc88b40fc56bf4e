package discover

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// Entry is a service as a file or a registration describes it. The form is Sidecar's;
// TTL and the settings of Check beyond Type and Args are our own. Of Service, the fields
// Hostname, Updated, Status, Task and Note are ignored: they are not the describer's to say.
type Entry struct {
	Service pancake.Service
	Check   health.Spec
	// ListenPort is a port of the host that wants to be told of changes; 0 for none.
	ListenPort int64 `json:",omitempty"`
	// TTL is how long a registration lives without a sign of life; 0 for ever.
	TTL Duration `json:",omitzero"`
}

// Duration is written in JSON as 30s or 5m.
type Duration time.Duration

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	parsed, err := time.ParseDuration(string(b))
	if err != nil {
		return pancake.Errorf(pancake.Invalid, "%q is not a duration such as 30s", clip(string(b)))
	}
	*d = Duration(parsed)
	return nil
}

// The bounds of a TTL, and of a heart beat's.
const (
	minTTL = time.Second
	maxTTL = 7 * 24 * time.Hour
)

// decodeEntry reads one entry, strictly: a slip of the pen must not lose a setting.
func decodeEntry(b []byte) (Entry, error) {
	var e Entry
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, pancake.Errorf(pancake.Invalid, "%w", plain(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return e, pancake.Errorf(pancake.Invalid, "something follows the description of the service")
	}
	return e, nil
}

// plain says in plain words what JSON says is wrong.
func plain(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: found %s, expected %s", cmp.Or(wrong.Field, "the service"), wrong.Value, cmp.Or(kinds[wrong.Type.Kind().String()], "something else"))
	}
	if own, ok := errors.AsType[*pancake.Error](err); ok {
		return own
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// kinds are Go's words for what JSON can hold, in plain words.
var kinds = map[string]string{
	"string": "a text", "int64": "a whole number", "int": "a whole number", "bool": "true or false",
	"struct": "an object", "map": "an object", "slice": "a list",
}

// complete checks an entry and fills in what it leaves out.
func (e *Entry) complete(advertiseIP string) error {
	s := &e.Service
	bad := func(format string, args ...any) error { return pancake.Errorf(pancake.Invalid, format, args...) }
	if s.Name == "" {
		return bad("Service.Name is missing")
	}
	switch s.ProxyMode {
	case "":
		s.ProxyMode = "http"
	case "http", "tcp", "ws":
	default:
		return bad("Service.ProxyMode is %q; it can be http, tcp and ws", clip(s.ProxyMode))
	}
	for i := range s.Ports {
		if err := completePort(&s.Ports[i], advertiseIP); err != nil {
			return bad("Service.Ports: entry %d: %w", i+1, err)
		}
	}
	if n := len(s.Ports); n > catalog.MaxPorts {
		return bad("Service.Ports has %d entries; %d are allowed", n, catalog.MaxPorts)
	}
	s.Ports = sortPorts(s.Ports)
	for name := range s.Labels {
		if !isTraefik(name) {
			return bad("Service.Labels: %q is not announced; only labels that begin with traefik. are", clip(name))
		}
	}
	if e.ListenPort < 0 || e.ListenPort > 65535 {
		return bad("ListenPort %d does not exist", e.ListenPort)
	}
	if err := e.Check.Validate(); err != nil {
		return err
	}
	s.Hostname, s.Task, s.Note, s.Status, s.Updated = "", "", "", pancake.Sick, time.Time{}
	checked := *s
	checked.ID, checked.Hostname = "x", "x" // they are added later
	return catalog.Valid(&checked)
}

func completePort(p *pancake.ServicePort, advertiseIP string) error {
	switch p.Type {
	case "":
		p.Type = "tcp"
	case "tcp", "udp":
	default:
		return fmt.Errorf("Type is %q; it can be tcp and udp", clip(p.Type))
	}
	if p.Port < 1 || p.Port > 65535 {
		return fmt.Errorf("Port is %d; it is a number from 1 to 65535", p.Port)
	}
	if p.ServicePort < 0 || p.ServicePort > 65535 || p.ContainerPort < 0 || p.ContainerPort > 65535 {
		return fmt.Errorf("ServicePort and ContainerPort are numbers up to 65535")
	}
	if p.IP == "" {
		p.IP = advertiseIP
	}
	if _, err := netip.ParseAddr(p.IP); err != nil && advertiseIP != p.IP {
		return fmt.Errorf("IP is %q, which is no address", clip(p.IP))
	}
	return nil
}

// found is what discovery makes of an entry.
func (e *Entry) found(advertiseIP string) Found {
	f := Found{Service: e.Service, Check: e.Check}
	if e.ListenPort != 0 {
		f.Listener = listener(advertiseIP, e.ListenPort)
	}
	return f
}
