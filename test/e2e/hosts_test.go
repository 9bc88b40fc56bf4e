//go:build e2e

package e2e

import (
	"bytes"
	encoding "encoding/binary" // the package has a function binary
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/internal/testkit/logbuf"
)

// What the test binary does instead of testing when it runs on another host.
const (
	captureVariable = "PANCAKE_E2E_CAPTURE" // capture the packets of the link it names
	getVariable     = "PANCAKE_E2E_GET"     // print what is at the URL it names
	sidecarVariable = "PANCAKE_E2E_SIDECAR" // run the Sidecar that it describes
)

func TestMain(m *testing.M) {
	var err error
	switch link, url, node := os.Getenv(captureVariable), os.Getenv(getVariable), os.Getenv(sidecarVariable); {
	case link != "":
		err = capturePackets(link)
	case url != "":
		err = printPage(url)
	case node != "":
		err = runSidecarNode(node)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func printPage(url string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, io.LimitReader(resp.Body, 1<<20))
	return err
}

// host is a machine of its own as far as the network goes: a network namespace
// with one link to the other host. Files and the Docker engine are shared.
type host struct {
	name string // of the namespace
	link string
	ip   string
}

// twoHosts makes two hosts and a wire between them. Docker, outside of both,
// publishes ports of tasks on the hosts' addresses: it gets them on a link that
// leads nowhere.
func twoHosts(t *testing.T) (a, b host) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	id := fmt.Sprintf("pk%x", os.Getpid())
	prefix := fmt.Sprintf("10.77.%d.", os.Getpid()%250+1)
	a = host{name: id + "a", link: id + "a", ip: prefix + "1"}
	b = host{name: id + "b", link: id + "b", ip: prefix + "2"}
	nowhere := id + "d"
	t.Cleanup(func() {
		for _, args := range [][]string{{"netns", "del", a.name}, {"netns", "del", b.name}, {"link", "del", nowhere}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				t.Errorf("ip %v: %v: %s", args, err, out)
			}
		}
	})
	ip(t, "netns", "add", a.name)
	ip(t, "netns", "add", b.name)
	ip(t, "link", "add", a.link, "netns", a.name, "type", "veth", "peer", "name", b.link, "netns", b.name)
	ip(t, "link", "add", nowhere, "type", "bridge")
	ip(t, "link", "set", nowhere, "up")
	for _, h := range []host{a, b} {
		ip(t, "-n", h.name, "link", "set", "lo", "up")
		ip(t, "-n", h.name, "addr", "add", h.ip+"/24", "dev", h.link)
		ip(t, "-n", h.name, "link", "set", h.link, "up")
		ip(t, "addr", "add", h.ip+"/32", "dev", nowhere)
	}
	return a, b
}

// ip runs the command of that name.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// on is the command line that runs another one on the host.
func (h host) on(args ...string) []string {
	return append([]string{"ip", "netns", "exec", h.name}, args...)
}

// start runs bin/pancake in the background, as the function start does.
func (h host) start(t *testing.T, args ...string) *process {
	t.Helper()
	args = h.on(append([]string{binary(t, "pancake")}, args...)...)
	return startProgram(t, args[0], args[1:]...)
}

// run runs bin/pancake to its end, as the function run does, for somebody whose
// home directory is home.
func (h host) run(t *testing.T, home string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runCommand(t, home, h.on(append([]string{binary(t, "pancake")}, args...)...), "HOME="+home, "XDG_CONFIG_HOME=")
}

// must is run for what has to succeed.
func (h host) must(t *testing.T, home string, args ...string) string {
	t.Helper()
	out, errs, code := h.run(t, home, args...)
	if code != 0 {
		t.Fatalf("pancake %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// get returns what is at a URL, as the host sees it.
func (h host) get(t *testing.T, url string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := runCommand(t, "", h.on(self), getVariable+"="+url)
	if code != 0 {
		t.Fatalf("GET %s: %s", url, stderr)
	}
	return stdout
}

// capture is what went over a host's link.
type capture struct{ out *logbuf.Buffer }

// capture reads all packets of the host's link from now on.
func (h host) capture(t *testing.T) *capture {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := h.on(self)
	cmd := exec.Command(args[0], args[1:]...)
	c, notes := &capture{out: &logbuf.Buffer{}}, &logbuf.Buffer{}
	cmd.Env = append(os.Environ(), captureVariable+"="+h.link)
	cmd.Stdout, cmd.Stderr = c.out, notes
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(t, 10*time.Second, "the packet capture to begin", func() error {
		if text := notes.String(); !strings.Contains(text, "capturing") {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
	return c
}

// capturePackets writes every packet of a link to stdout, behind its length.
func capturePackets(link string) error {
	iface, err := net.InterfaceByName(link)
	if err != nil {
		return err
	}
	const all = syscall.ETH_P_ALL<<8 | syscall.ETH_P_ALL>>8 // in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, all&0xffff)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 64<<20); err != nil {
		return fmt.Errorf("set the size of the buffer: %w", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: iface.Index}); err != nil {
		return fmt.Errorf("listen on %s: %w", link, err)
	}
	fmt.Fprintln(os.Stderr, "capturing")
	frame := make([]byte, 4+1<<17) // a packet between namespaces can be 64 KiB, before it is cut for a wire
	for {
		n, _, err := syscall.Recvfrom(fd, frame[4:], 0)
		if err != nil {
			return fmt.Errorf("read a packet: %w", err)
		}
		encoding.BigEndian.PutUint32(frame, uint32(n))
		if _, err := os.Stdout.Write(frame[:4+n]); err != nil {
			return err
		}
	}
}

// of is what packets from or to a port carried, one after the other.
func (c *capture) of(port int) []byte {
	var out []byte
	for rest := []byte(c.out.String()); len(rest) >= 4; {
		n := int(encoding.BigEndian.Uint32(rest))
		if len(rest) < 4+n {
			break // it is being written
		}
		if from, to, payload := dissect(rest[4 : 4+n]); from == port || to == port {
			out = append(out, payload...)
		}
		rest = rest[4+n:]
	}
	return out
}

// dissect returns ports and payload of a TCP or UDP packet in an Ethernet frame.
func dissect(frame []byte) (from, to int, payload []byte) {
	const ethernet = 14
	if len(frame) < ethernet+20 || encoding.BigEndian.Uint16(frame[12:]) != syscall.ETH_P_IP {
		return 0, 0, nil
	}
	packet := frame[ethernet:]
	header := int(packet[0]&0x0f) * 4
	if len(packet) < header+20 && packet[9] != syscall.IPPROTO_UDP || len(packet) < header+8 {
		return 0, 0, nil
	}
	segment := packet[header:]
	from, to = int(encoding.BigEndian.Uint16(segment)), int(encoding.BigEndian.Uint16(segment[2:]))
	switch packet[9] {
	case syscall.IPPROTO_TCP:
		return from, to, segment[min(int(segment[12]>>4)*4, len(segment)):]
	case syscall.IPPROTO_UDP:
		return from, to, segment[8:]
	}
	return 0, 0, nil
}

// counts says how often each word occurs, per port.
func (c *capture) counts(ports map[string]int, words ...string) map[string]map[string]int {
	out := map[string]map[string]int{}
	for name, port := range ports {
		payload := c.of(port)
		out[name] = map[string]int{"bytes": len(payload)}
		for _, w := range words {
			out[name][w] = bytes.Count(payload, []byte(w))
		}
	}
	return out
}
