package probe

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors counts those that are open. Those of earlier tests may yet be closed.
func descriptors(t *testing.T) int {
	t.Helper()
	if ln, err := net.Listen("tcp", "127.61.1.9:0"); err != nil { // the runtime opens some of its own with the first
		t.Fatal(err)
	} else {
		ln.Close()
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// full is a port whose queue of connections is full: it does not answer until accept makes
// room, or refuse ends the listening.
type full struct {
	t    *testing.T
	fd   int
	port int
}

func listenFull(t *testing.T, ip [4]byte) full {
	t.Helper()
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	f := full{t: t, fd: socket()}
	t.Cleanup(func() { _ = unix.Close(f.fd) })
	if err := errors.Join(unix.Bind(f.fd, &unix.SockaddrInet4{Addr: ip}), unix.Listen(f.fd, 0)); err != nil {
		t.Fatal(err)
	}
	local, err := unix.Getsockname(f.fd)
	if err != nil {
		t.Fatal(err)
	}
	f.port = local.(*unix.SockaddrInet4).Port
	filler := socket() // a queue of length 0 takes one
	t.Cleanup(func() { _ = unix.Close(filler) })
	if err := unix.Connect(filler, local); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f full) accept() {
	f.t.Helper()
	fd, _, err := unix.Accept(f.fd)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = unix.Close(fd) })
}

func (f full) refuse() {
	f.t.Helper()
	if err := unix.Shutdown(f.fd, unix.SHUT_RDWR); err != nil {
		f.t.Fatal(err)
	}
}

func TestConnectOutcomes(t *testing.T) {
	_, port := listen(t, "127.61.1.1")
	_, any4 := listen(t, "127.0.0.1")
	_, six := listen(t, "::1")
	for _, tt := range []struct {
		address string
		port    int
		want    string
	}{
		{"127.61.1.1", port, ""},
		{"::ffff:127.61.1.1", port, ""},
		{"0.0.0.0", any4, ""},
		{"::1", six, ""},
		{"localhost", any4, ""}, // through the net package
		{"127.61.1.1", closedPort(t, "127.61.1.1"), "connect: connection refused"},
		{"::1", closedPort(t, "::1"), "connect: connection refused"},
		{"127.61.1.2", listenFull(t, [4]byte{127, 61, 1, 2}).port, "no answer in time"},
	} {
		expect(t, Check{Address: tt.address, Port: tt.port, Interval: time.Second, Timeout: 200 * time.Millisecond}, tt.want)
	}
}

func TestAddressesWithAZoneAndNamesAreLeftToNet(t *testing.T) {
	for address, lean := range map[string]bool{"127.0.0.1": true, "::1": true, "fe80::1%lo": false, "localhost": false} {
		if got := new(connector).check(Check{Address: address, Port: 1}) != nil; got != lean {
			t.Errorf("%s: %v, want %v", address, got, lean)
		}
	}
}

// The kernel asks again after a second. What it is told then ends the attempt.
func TestConnectWaitsForTheAnswer(t *testing.T) {
	before := descriptors(t)
	tools := newTools(slog.New(slog.DiscardHandler))
	opened, closed := listenFull(t, [4]byte{127, 61, 1, 3}), listenFull(t, [4]byte{127, 61, 1, 4})
	ends := map[string]chan error{}
	for name, port := range map[string]int{"127.61.1.3": opened.port, "127.61.1.4": closed.port} {
		begin, err := tools.prepare(Check{Address: name, Port: port, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		ends[name] = done
		begin(t.Context(), func(err error) { done <- err })
	}
	tools.settle()
	tools.tcp.mu.Lock()
	n := len(tools.tcp.waiting)
	tools.tcp.mu.Unlock()
	if n != 2 {
		t.Fatalf("%d of 2 wait", n)
	}
	opened.accept()
	closed.refuse()
	if err := <-ends["127.61.1.3"]; err != nil {
		t.Error(err)
	}
	if err := <-ends["127.61.1.4"]; !errors.Is(err, unix.ECONNREFUSED) {
		t.Error(err)
	}
	if n := len(tools.tcp.idle[unix.AF_INET]); n != 1 {
		t.Errorf("%d sockets are kept of the one that connected", n)
	}
	tools.close()
	if n := descriptors(t) - before; n > 5 { // those of the test
		t.Errorf("%d descriptors are left open", n-5)
	}
}

func TestConnectUsesSocketsAgain(t *testing.T) {
	_, port := listen(t, "127.61.1.5")
	refused := closedPort(t, "127.61.1.5")
	before := descriptors(t)
	tools := newTools(slog.New(slog.DiscardHandler))
	for range 10 { // nobody accepts, and more than 4096 do not fit the queue
		const count = 3 * maxIdle
		done, failed := make(chan error, count), 0
		for i := range count {
			c := Check{Address: "127.61.1.5", Port: port, Timeout: 10 * time.Second}
			if i%3 == 0 {
				c.Port = refused
			}
			begin, err := tools.prepare(c)
			if err != nil {
				t.Fatal(err)
			}
			begin(t.Context(), func(err error) { done <- err })
		}
		tools.settle()
		for range count {
			if err := <-done; err != nil {
				failed++
			}
		}
		if failed != count/3 {
			t.Errorf("%d of %d are refused", failed, count/3)
		}
		if n := descriptors(t) - before; n > maxIdle+1 || len(tools.tcp.idle[unix.AF_INET]) != maxIdle { // perhaps the epoll
			t.Fatalf("%d descriptors are open, want %d", n, maxIdle)
		}
	}
	tools.close()
	if n := descriptors(t) - before; n > 0 {
		t.Errorf("%d descriptors are left open", n)
	}
}

// A port that nobody has may be given to the very socket that connects to it.
func TestConnectingToOneselfIsNoAnswer(t *testing.T) {
	before := descriptors(t)
	c := Check{Address: "127.61.1.6", Interval: time.Second, Port: closedPort(t, "127.61.1.6"), Timeout: 10 * time.Second}
	tools := newTools(slog.New(slog.DiscardHandler))
	fd, err := tools.tcp.socket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 61, 1, 6}, Port: c.Port}); err != nil {
		t.Fatal(err)
	}
	tools.tcp.idle = map[int][]int{unix.AF_INET: {fd}}
	begin, err := tools.prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := await(t, tools, begin); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	tools.close()
	if n := descriptors(t) - before; n > 0 {
		t.Errorf("%d descriptors are left open", n)
	}
}

func TestRunEndsWhileProbesHang(t *testing.T) {
	port := listenFull(t, [4]byte{127, 61, 1, 7}).port
	before := descriptors(t)
	var late atomic.Int32
	p := New(Config{Concurrency: 8, Observe: func(r Result) bool {
		if r.Err == nil || !strings.Contains(r.Err.Error(), "no answer in time") || r.Own || r.Took < 100*time.Millisecond {
			t.Errorf("%+v", r)
		}
		late.Add(1)
		return true
	}})
	var targets []Target
	for i := range 100 {
		targets = append(targets, Target{fmt.Sprint(i), Check{Address: "127.61.1.7", Port: port, Interval: 100 * time.Millisecond}})
	}
	if err := p.Set(targets); err != nil {
		t.Fatal(err)
	}
	stop := start(t, p)
	for late.Load() < 30 {
		if n := descriptors(t) - before; n > 8+1 { // and the epoll
			t.Fatalf("%d descriptors for 8 probes", n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	if n := descriptors(t) - before; n > 0 {
		t.Errorf("%d descriptors are left open", n)
	}
}
