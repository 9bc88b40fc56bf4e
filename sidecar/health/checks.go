package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// The types of checks. HttpGet, External and AlwaysSuccessful are Sidecar's; the
// others are Pancake's own.
const (
	HTTPGet          = "HttpGet"          // args: a URL; passes on 200 to 299
	TCP              = "Tcp"              // args: host:port; passes if something listens there
	GRPC             = "Grpc"             // args: host:port or host:port/service; passes if grpc.health.v1 says SERVING
	External         = "External"         // args: a program and its arguments, without a shell; passes on exit code 0
	AlwaysSuccessful = "AlwaysSuccessful" // passes
	Docker           = "Docker"           // what the container's own HEALTHCHECK says; discovery reports it
	TTL              = "Ttl"              // args: how long a heart beat lasts; discovery reports it
)

var types = []string{HTTPGet, TCP, GRPC, External, AlwaysSuccessful, Docker, TTL}

// prepared is a check with its arguments filled in. A nil run always passes.
type prepared struct {
	settings
	kind  string
	lanes *lanes
	run   func(context.Context) error
}

// prepare turns a service's labels into a check, as Sidecar does: without a
// label the first TCP port is asked for the default endpoint, and a service
// without one always passes. An unknown type counts as HttpGet.
func (c *Checker) prepare(t Target) (prepared, error) {
	p := prepared{kind: t.Spec.Type, lanes: c.requests}
	first := firstTCP(&t.Service)
	args, err := c.expand(t.Spec.Args, &t.Service)
	if err != nil {
		return p, err
	}
	if p.settings, err = t.Spec.settings(c.cfg); err != nil {
		return p, err
	}
	for _, name := range t.Spec.Unknown() {
		if c.firstTime("label " + name) {
			c.log.Warn("unknown health check label; it has no effect", "label", prefix+name, "service", t.Service.Name, "id", t.Service.ID)
		}
	}
	switch p.kind {
	case HTTPGet, TCP, GRPC, External, AlwaysSuccessful:
	case "":
		p.kind = HTTPGet
		if first == "" && args == "" {
			p.kind = AlwaysSuccessful
		}
	default:
		if c.firstTime("type " + p.kind) {
			c.log.Warn("unknown health check type; HttpGet is used", "type", p.kind, "known", types, "service", t.Service.Name, "id", t.Service.ID)
		}
		p.kind = HTTPGet
	}
	p.run, err = c.runner(&p, args, first)
	return p, err
}

// runner is what runs a check of the kind of p; nil for what needs none.
func (c *Checker) runner(p *prepared, args, first string) (func(context.Context) error, error) {
	target := args
	if target == "" && p.kind != AlwaysSuccessful && p.kind != External {
		if target = first; target == "" {
			return nil, pancake.Errorf(pancake.Invalid, "nothing to check: it publishes no TCP port and label %s is empty", pancake.LabelHealthCheckArgs)
		}
	}
	switch p.kind {
	case HTTPGet:
		if args == "" {
			target = "http://" + first + "/" + strings.TrimPrefix(c.cfg.DefaultEndpoint, "/")
			if p.tls.on {
				target = "https" + strings.TrimPrefix(target, "http")
			}
		}
		return func(ctx context.Context) error { return c.get(ctx, p.http, p.tls, target) }, nil
	case TCP:
		return func(ctx context.Context) error { return connect(ctx, target) }, nil
	case GRPC:
		addr, service, _ := strings.Cut(target, "/")
		return func(ctx context.Context) error { return askGRPC(ctx, p.tls, addr, service) }, nil
	case External:
		p.lanes = c.programs
		words := strings.Fields(args)
		if len(words) == 0 {
			return nil, pancake.Errorf(pancake.Invalid, "label %s names no program to run", pancake.LabelHealthCheckArgs)
		}
		if p.shell {
			words = []string{"/bin/sh", "-c", args}
		}
		return func(ctx context.Context) error { return run(ctx, words) }, nil
	}
	return nil, nil
}

// firstTCP is the address of the first TCP port, of those that are proxied if
// there are any.
func firstTCP(svc *pancake.Service) string {
	first := ""
	for _, p := range svc.Ports {
		if p.Type != "tcp" || first != "" && p.ServicePort == 0 {
			continue
		}
		first = net.JoinHostPort(p.IP, strconv.FormatInt(p.Port, 10))
		if p.ServicePort != 0 {
			break
		}
	}
	return first
}

// settle is how long a new connection is watched. Docker's proxy accepts
// connections though nothing listens inside the container, and only then
// notices and closes them.
const settle = 100 * time.Millisecond

func connect(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(addr, "tcp://"))
	if err != nil {
		return reason(ctx, err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return fmt.Errorf("tcp %s: %w", addr, err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("tcp %s: closed at once; nothing listens on the port inside the container", addr)
	}
	return nil
}

// reason says in few words why a check that was bounded by ctx failed.
func reason(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if asked, ok := errors.AsType[*url.Error](err); ok {
		err = asked.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err // without the addresses: the local one is another each time
	}
	return err
}
