package cloud

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// Ready is the line that a fake prints when it serves.
type Ready struct {
	HTTP string `json:"http"` // the base URL
	DNS  string `json:"dns"`  // host:port, UDP and TCP
}

// Main runs a fake until ctx ends or stdin does: a fake must not outlive who started it.
func Main(ctx context.Context, args []string, in io.Reader, out io.Writer, api API, answer Answer) error {
	flags := flag.NewFlagSet("fakecloud", flag.ContinueOnError)
	httpAddr := flags.String("http", "127.0.0.1:0", "address of the API")
	dnsAddr := flags.String("dns", "127.0.0.1:0", "address of the DNS server, UDP and TCP")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ln, err := net.Listen("tcp", *httpAddr)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	pc, tcp, err := ListenDNS(*dnsAddr)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: NewServer(api), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error { return ServeDNS(ctx, pc, tcp, answer) })
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	go func() { // ends with the process: a read of stdin cannot be interrupted
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	if err := json.NewEncoder(out).Encode(Ready{"http://" + ln.Addr().String(), pc.LocalAddr().String()}); err != nil {
		return err
	}
	return g.Wait()
}

// Env is set in the environment of a fake that Start runs, so that a test binary
// can be one: its TestMain then calls Main.
const Env = "FAKECLOUD"

// Start runs a fake as a process until the test ends, and returns where it serves.
func Start(t testing.TB, path string, args ...string) Ready {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), Env+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the fake: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the fake ended with %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	var ready Ready
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		t.Fatalf("the fake did not start: %v %s", err, line)
	}
	return ready
}
