package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// connector connects to addresses over TCP to see whether they answer. It does with few
// system calls and without a goroutine each: the net package takes twice the processor
// time. Probes are begun and settled by one goroutine.
type connector struct {
	fresh []*attempt // begun since settle
	polls []unix.PollFd

	mu       sync.Mutex
	epoll    *os.File // of those that wait; opened with the first
	epollFD  int      // its descriptor: asked for it, os would let it block
	waiting  map[int32]*attempt
	last     int32         // key in waiting
	idle     map[int][]int // sockets to be used again, by family
	watching sync.WaitGroup
}

// maxIdle bounds the sockets that are kept, of each family. A thousand probes a second
// begin about 100 together.
const maxIdle = 128

// attempt is a connection that is being made.
type attempt struct {
	peer
	fd    int
	until time.Time
	timer *time.Timer // if it has to wait
	done  func(error)
}

// peer is what is connected to.
type peer struct {
	addr     netip.AddrPort
	family   int
	sockaddr unix.Sockaddr
}

// check makes the function that begins a probe, or none if the address is a name or has a zone.
func (c *connector) check(k Check) begin {
	ip, err := netip.ParseAddr(k.Address)
	if err != nil || ip.Zone() != "" {
		return nil
	}
	ip = ip.Unmap()
	to := peer{netip.AddrPortFrom(ip, uint16(k.Port)), unix.AF_INET6, &unix.SockaddrInet6{Port: k.Port, Addr: ip.As16()}}
	if ip.Is4() {
		to.family, to.sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: k.Port, Addr: ip.As4()}
	}
	return func(_ context.Context, done func(error)) {
		until := time.Now().Add(k.Timeout)
		fd, err := c.connect(to)
		if err != nil {
			done(plain(&net.OpError{Err: err}))
			return
		}
		c.fresh = append(c.fresh, &attempt{peer: to, fd: fd, until: until, done: done})
	}
}

func (c *connector) connect(to peer) (fd int, err error) {
	if fd, err = c.socket(to.family); err != nil {
		return -1, err
	}
	err = unix.Connect(fd, to.sockaddr)
	if err == nil || errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		return fd, nil
	}
	_ = unix.Close(fd) // it never was connected
	return -1, os.NewSyscallError("connect", err)
}

// socket gives an idle socket or a new one. When it is closed it resets its connection:
// nothing then lingers on either side.
func (c *connector) socket(family int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if idle := c.idle[family]; len(idle) > 0 {
		last := len(idle) - 1 // which the caches know best
		c.idle[family] = idle[:last]
		return idle[last], nil
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // else it closes as usual
	return fd, nil
}

// settle ends the probes begun since it was called last that have their answer, which
// nearby most have, and lets the others wait.
func (c *connector) settle() {
	if len(c.fresh) == 0 {
		return
	}
	c.polls = c.polls[:0]
	for _, a := range c.fresh {
		c.polls = append(c.polls, unix.PollFd{Fd: int32(a.fd), Events: unix.POLLOUT})
	}
	_, _ = unix.Poll(c.polls, 0) // those that it tells nothing of wait
	for i, a := range c.fresh {
		if c.polls[i].Revents != 0 {
			c.end(a, a.outcome())
		} else if err := c.wait(a); err != nil {
			c.end(a, fmt.Errorf("%w: cannot wait for connections: %w", errOwn, err))
		}
	}
	clear(c.fresh)
	c.fresh = c.fresh[:0]
}

// wait lets watch or the end of its time end the attempt.
func (c *connector) wait(a *attempt) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoll == nil {
		if err := c.open(); err != nil {
			return err
		}
	}
	c.last++
	key := c.last
	// Not by descriptor, whose number soon is another attempt's.
	if err := unix.EpollCtl(c.epollFD, unix.EPOLL_CTL_ADD, a.fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: key}); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	c.waiting[key] = a
	a.timer = time.AfterFunc(time.Until(a.until), func() {
		if c.take(key) != nil {
			c.end(a, a.late())
		}
	})
	return nil
}

func (c *connector) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(fd, true) // tells os that it can be waited for
	c.epollFD, c.epoll, c.waiting = fd, os.NewFile(uintptr(fd), "epoll"), map[int32]*attempt{}
	conn, err := c.epoll.SyscallConn()
	if err != nil {
		return err
	}
	c.watching.Go(func() { c.watch(conn) })
	return nil
}

// watch ends the attempts that have their answer, until the connector is closed.
func (c *connector) watch(conn syscall.RawConn) {
	events := make([]unix.EpollEvent, 64)
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			n, _ = unix.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			if a := c.take(e.Fd); a != nil {
				a.timer.Stop()
				c.end(a, a.outcome())
			}
		}
	}
}

// take hands an attempt to who ends it: the first who asks.
func (c *connector) take(key int32) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.waiting[key]
	delete(c.waiting, key)
	return a
}

// end gives the socket back, and tells the outcome.
func (c *connector) end(a *attempt, err error) {
	if err != nil || !c.keep(a) {
		_ = unix.Close(a.fd) // it did answer, or never will
	}
	a.done(err)
}

// keep resets the connection and keeps its socket, if there is room: to make and to close
// one takes a third of the time of a probe.
func (c *connector) keep(a *attempt) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle[a.family]) >= maxIdle {
		return false
	}
	if a.timer != nil {
		if err := unix.EpollCtl(c.epollFD, unix.EPOLL_CTL_DEL, a.fd, nil); err != nil {
			return false
		}
	}
	none := unix.RawSockaddr{Family: unix.AF_UNSPEC} // dissolves the connection, see connect(2)
	if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(a.fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none)); errno != 0 {
		return false
	}
	if c.idle == nil {
		c.idle = map[int][]int{}
	}
	c.idle[a.family] = append(c.idle[a.family], a.fd)
	return true
}

// close comes after the end of all probes.
func (c *connector) close() {
	c.mu.Lock()
	epoll := c.epoll
	c.epoll = nil
	for _, idle := range c.idle {
		for _, fd := range idle {
			_ = unix.Close(fd) // it is not connected
		}
	}
	c.idle = nil
	c.mu.Unlock()
	if epoll != nil {
		_ = epoll.Close() // nothing is left to be written
		c.watching.Wait()
	}
}

// outcome is why the attempt, which has its answer, failed.
func (a *attempt) outcome() error {
	errno, err := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errOwn, os.NewSyscallError("getsockopt", err))
	case errno != 0:
		return plain(&net.OpError{Err: os.NewSyscallError("connect", syscall.Errno(errno))})
	case a.toItself():
		return os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return nil
}

// toItself says that the socket was given the very port that it connects to, and answered
// itself, as happens on the own machine when nobody else has the port.
func (a *attempt) toItself() bool {
	local, err := syscall.Getsockname(a.fd)
	if err != nil {
		return false
	}
	switch local := local.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port)) == a.addr
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(local.Addr), uint16(local.Port)) == a.addr
	}
	return false
}

// late is the outcome of an attempt whose time is over: there may be an answer that
// nobody has looked at yet.
func (a *attempt) late() error {
	fds := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); err == nil && n == 1 {
		return a.outcome()
	}
	return errLate
}
