package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
)

// The types of checks. Tcp is Pancake's own; the others are Sidecar's.
const (
	HTTPGet          = "HttpGet"          // args: a URL; passes on 200 to 299
	TCP              = "Tcp"              // args: host:port; passes if something listens there
	External         = "External"         // args: a program and its arguments, without a shell; passes on exit code 0
	AlwaysSuccessful = "AlwaysSuccessful" // passes
)

// prepared is a check with its arguments filled in. A nil run always passes.
type prepared struct {
	kind string
	run  func(context.Context) error
}

// prepare turns a service's labels into a check, as Sidecar does: without a
// label the first TCP port is asked for the default endpoint, and a service
// without one always passes. An unknown type counts as HttpGet.
func (c *Checker) prepare(t Target) (prepared, error) {
	kind, first := t.Type, firstTCP(&t.Service)
	args, err := c.expand(t.Args, &t.Service)
	if err != nil {
		return prepared{}, err
	}
	switch kind {
	case HTTPGet, TCP, External, AlwaysSuccessful:
	case "":
		kind = HTTPGet
		if first == "" && args == "" {
			kind = AlwaysSuccessful
		}
	default:
		c.log.Warn("unknown health check type; HttpGet is used. Known are HttpGet, Tcp, External and AlwaysSuccessful",
			"service", t.Service.Name, "id", t.Service.ID, "type", kind)
		kind = HTTPGet
	}
	if args == "" && first == "" && (kind == HTTPGet || kind == TCP) {
		return prepared{}, pancake.Errorf(pancake.Invalid, "nothing to check: it publishes no TCP port and label %s is empty", pancake.LabelHealthCheckArgs)
	}
	p := prepared{kind: kind}
	switch kind {
	case HTTPGet:
		if args == "" {
			args = "http://" + first + "/" + strings.TrimPrefix(c.cfg.DefaultEndpoint, "/")
		}
		p.run = func(ctx context.Context) error { return c.get(ctx, args) }
	case TCP:
		if args == "" {
			args = first
		}
		p.run = func(ctx context.Context) error { return connect(ctx, args) }
	case External:
		words := strings.Fields(args)
		if len(words) == 0 {
			return p, pancake.Errorf(pancake.Invalid, "label %s names no program to run", pancake.LabelHealthCheckArgs)
		}
		p.run = func(ctx context.Context) error { return run(ctx, words) }
	}
	return p, nil
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

// newHTTPClient makes a client that keeps no connections, so that each check
// is one, and follows redirects only to where it was sent in the first place.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 5 || req.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

func (c *Checker) get(ctx context.Context, target string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("HttpGet %s: %w", target, err)
	}
	req.Header.Set("User-Agent", "pancake-sidecar")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("GET %s: %w", target, reason(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, MaxNote)) // what there is of it
	return fmt.Errorf("GET %s: %s %s", target, resp.Status, body)
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

// run runs a program in a process group of its own, with nothing of our
// environment but PATH, and ends all of the group when the time is up.
func run(ctx context.Context, words []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 100 * time.Millisecond
	out := &bounded{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", words[0], reason(ctx, err), out)
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
