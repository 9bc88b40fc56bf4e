package probe

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
)

// The kinds of checks.
const (
	ICMP  = "icmp"
	TCP   = "tcp"
	HTTP  = "http"
	HTTPS = "https"
	GRPC  = "grpc"
	DNS   = "dns"
)

// Check says how a target is probed. All of it can be compared with ==.
type Check struct {
	Kind string `json:"kind,omitempty"` // default tcp
	// Address is an IP address, v4 or v6, or a name that is looked up for each probe.
	Address string `json:"address"`
	Port    int    `json:"port,omitempty"` // default 80, 443, 53 or, for tcp and grpc, none

	Interval time.Duration `json:"interval,omitempty"` // between two probes. Default 2 s
	Timeout  time.Duration `json:"timeout,omitempty"`  // of a probe. Default: Interval, at most 5 s
	Recheck  time.Duration `json:"recheck,omitempty"`  // from one probe to the next after a surprise. Default: a quarter of Interval
	Fall     int           `json:"fall,omitempty"`     // failures in a row that make it down. Default 3
	Rise     int           `json:"rise,omitempty"`     // successes in a row that make it up. Default 3

	// Of http and https:
	Path       string        `json:"path,omitempty"`        // default /
	Method     string        `json:"method,omitempty"`      // default GET
	Host       string        `json:"host,omitempty"`        // header, and SNI unless that is set. Default: the address
	Status     string        `json:"status,omitempty"`      // what is well, such as 200-299,404. Default 200-399
	Body       string        `json:"body,omitempty"`        // a regular expression for the first 64 KiB
	SNI        string        `json:"sni,omitempty"`         // also of grpc
	CA         string        `json:"ca,omitempty"`          // a PEM file that replaces the system's authorities; also of grpc
	SkipVerify bool          `json:"skip_verify,omitempty"` // any certificate is well; also of grpc
	CertValid  time.Duration `json:"cert_valid,omitempty"`  // the certificate is good for at least as long; also of grpc
	Follow     bool          `json:"follow,omitempty"`      // follow redirects to the same address, up to 5, rather than judge them

	// Of grpc:
	Service string `json:"service,omitempty"` // what the health service is asked for. Default "": the server
	TLS     bool   `json:"tls,omitempty"`

	// Of dns:
	Query  string `json:"query,omitempty"`  // a name that has to be answered
	Type   string `json:"type,omitempty"`   // default A
	Answer string `json:"answer,omitempty"` // what one of the answers has to be. Default: any
}

// WithDefaults fills in what was left out.
func (c Check) WithDefaults() Check {
	c.Kind = cmp.Or(strings.ToLower(c.Kind), TCP)
	c.Port = cmp.Or(c.Port, map[string]int{HTTP: 80, HTTPS: 443, DNS: 53}[c.Kind])
	c.Interval = cmp.Or(c.Interval, 2*time.Second)
	c.Timeout = cmp.Or(c.Timeout, min(c.Interval, 5*time.Second))
	c.Recheck = cmp.Or(c.Recheck, c.Interval/4)
	c.Fall, c.Rise = cmp.Or(c.Fall, 3), cmp.Or(c.Rise, 3)
	if c.Kind == HTTP || c.Kind == HTTPS {
		c.Path, c.Method, c.Status = cmp.Or(c.Path, "/"), cmp.Or(c.Method, "GET"), cmp.Or(c.Status, "200-399")
	}
	if c.Kind == DNS {
		c.Type = cmp.Or(strings.ToUpper(c.Type), "A")
	}
	return c
}

const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
)

// Validate says what is wrong with the check, with its defaults filled in. It fails
// with Invalid.
func (c Check) Validate() error {
	c = c.WithDefaults()
	wrong := func(format string, args ...any) error {
		return pancake.Errorf(pancake.Invalid, "check of "+strconv.Quote(c.Address)+": "+format, args...)
	}
	switch {
	case c.Address == "" || strings.ContainsAny(c.Address, " /[]"):
		return wrong("the address has to be an IP address or a host name")
	case strings.Contains(c.Address, ":") && !isIP(c.Address):
		return wrong("the address has to come without a port; use port")
	case c.Interval < minInterval || c.Interval > maxInterval:
		return wrong("interval %s is not between %s and %s", c.Interval, minInterval, maxInterval)
	case c.Timeout < time.Millisecond || c.Timeout > time.Minute:
		return wrong("timeout %s is not between 1ms and 1m", c.Timeout)
	case c.Recheck < time.Millisecond:
		return wrong("recheck %s is too short", c.Recheck)
	case c.Fall < 1 || c.Rise < 1 || c.Fall > 1000 || c.Rise > 1000:
		return wrong("fall and rise have to be between 1 and 1000")
	case c.Port < 0 || c.Port > 65535:
		return wrong("%d is not a port", c.Port)
	case c.Port == 0 && (c.Kind == TCP || c.Kind == GRPC):
		return wrong("%s needs a port", c.Kind)
	}
	switch c.Kind {
	case ICMP, TCP, GRPC:
		return nil
	case HTTP, HTTPS:
		if _, err := parseStatus(c.Status); err != nil {
			return wrong("%w", err)
		}
		if _, err := regexp.Compile(c.Body); err != nil {
			return wrong("body: %w", err)
		}
		if !strings.HasPrefix(c.Path, "/") {
			return wrong("path %q has to begin with /", c.Path)
		}
		return nil
	case DNS:
		return validateDNS(c, wrong)
	}
	return wrong("kind %q is not known; use icmp, tcp, http, https, grpc or dns", c.Kind)
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// endpoint is what is connected to.
func (c Check) endpoint() string { return net.JoinHostPort(c.Address, strconv.Itoa(c.Port)) }

// tools is what checks share.
type tools struct {
	v4, v6 pinger
	tcp    connector
}

// begin starts a probe, which takes at most the check's timeout, and returns at once. Done is
// told once, perhaps before it returns, how the probe ended.
type begin func(ctx context.Context, done func(error))

// background makes a probe of a function that returns when it has ended.
func background(check func(context.Context) error) begin {
	return func(ctx context.Context, done func(error)) {
		go func() { done(check(ctx)) }()
	}
}

func newTools(log *slog.Logger) *tools {
	return &tools{v4: pinger{log: log}, v6: pinger{six: true, log: log}}
}

func (t *tools) close() {
	t.v4.close()
	t.v6.close()
	t.tcp.close()
}

// settle has to be called after probes were begun, by who began them.
func (t *tools) settle() { t.tcp.settle() }

// prepare makes the function that begins a probe.
func (t *tools) prepare(c Check) (begin, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var check func(context.Context) error
	var err error
	switch c.Kind {
	case ICMP:
		check = t.ping(c)
	case HTTP, HTTPS:
		check, err = httpCheck(c)
	case GRPC:
		check, err = grpcCheck(c)
	case DNS:
		check = dnsCheck(c)
	default:
		if begin := t.tcp.check(c); begin != nil {
			return begin, nil
		}
		check = tcpCheck(c)
	}
	if err != nil {
		return nil, err
	}
	return background(check), nil
}

// tcpCheck connects, and resets the connection: nothing then lingers on either side. It is
// for what a connector does not take.
func tcpCheck(c Check) func(context.Context) error {
	endpoint := c.endpoint()
	// A context that can end costs a goroutine per connection; the timeout is enough.
	dialer := net.Dialer{Timeout: c.Timeout, KeepAlive: -1}
	return func(ctx context.Context) error {
		conn, err := dialer.DialContext(context.WithoutCancel(ctx), "tcp", endpoint)
		if err != nil {
			return plain(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // then it closes as usual
		}
		_ = conn.Close() // it did answer
		return nil
	}
}

// own says that an error is this machine's and tells nothing of the target.
func own(err error) bool {
	for _, errno := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EACCES,
		syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EAFNOSUPPORT, errOwn,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	_, lookup := errors.AsType[*net.DNSError](err)
	return lookup
}

// errLate says that the timeout is over.
var errLate = errors.New("no answer in time")

// errOwn marks an error as this machine's.
var errOwn = errors.New("not the target's fault")

// plain drops the operation and addresses that net repeats in its errors.
func plain(err error) error {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return lookup // that the resolver did not answer in time is not the target's fault
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if op.Timeout() {
			return errLate
		}
		return op.Err
	}
	return err
}
