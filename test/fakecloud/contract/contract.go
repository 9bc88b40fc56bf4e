// Package contract is what the contract tests of all fakes share: faults, counts and
// questions that are the same whatever cloud it is.
package contract

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/dns/dnstest"
	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
)

// Main runs the tests, or the fake if this process was started as one, and returns the
// exit code.
func Main(m *testing.M, api cloud.API, answer cloud.Answer) int {
	if os.Getenv(cloud.Env) == "" {
		return m.Run()
	}
	if err := cloud.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, api, answer); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Start runs this test binary as a fake that holds state.
func Start(t *testing.T, state any) (cloud.Client, cloud.Ready) {
	t.Helper()
	ready := cloud.Start(t, os.Args[0], "-http", "127.31.0.1:0", "-dns", "127.31.0.1:0")
	client := cloud.Client{URL: ready.HTTP}
	Add(t, client, state)
	return client, ready
}

// Add adds to what the fake holds, as if somebody else had done so.
func Add(t *testing.T, c cloud.Client, state any) {
	t.Helper()
	must(t, c.Add(t.Context(), state))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// State is what the fake holds.
func State[T any](t *testing.T, c cloud.Client) (s T) {
	t.Helper()
	must(t, c.State(t.Context(), &s))
	return s
}

// Fixture fills in what is the same for all clouds. A write that is lost behind the fake
// answers with status; pauses says whether the cloud names one when it is asked too much.
func Fixture(client cloud.Client, ready cloud.Ready, status int, pauses bool) *dnstest.Fixture {
	fail := func(t *testing.T, f cloud.Fault) {
		t.Helper()
		must(t, client.Fail(t.Context(), f))
	}
	count := func(t *testing.T, counts func(cloud.Request) bool) int {
		log, err := client.Log(t.Context())
		must(t, err)
		return len(slices.DeleteFunc(log, func(r cloud.Request) bool { return !counts(r) }))
	}
	return &dnstest.Fixture{
		Resolve: func(t *testing.T, name, typ string) []string { return Resolve(t, ready.DNS, name, typ) },
		Writes:  func(t *testing.T) int { return count(t, cloud.Request.Write) },
		Calls:   func(t *testing.T) int { return count(t, func(cloud.Request) bool { return true }) },
		Faults: []string{
			dnstest.TimeoutBefore, dnstest.TimeoutAfter, dnstest.ResetBefore, dnstest.ResetAfter, dnstest.StatusAfter,
		},
		Fail: func(t *testing.T, kind string) {
			fail(t, cloud.Fault{Kind: kind, Method: "write", Count: 1, Status: status})
		},
		Break: func(t *testing.T) { fail(t, cloud.Fault{Kind: cloud.Status, Status: 500}) },
		Mend:  func(t *testing.T) { must(t, client.Mend(t.Context())) },
		TooMany: func(t *testing.T, pause time.Duration) {
			f := cloud.Fault{Kind: cloud.Status, Status: 429, Count: 1}
			if pauses {
				f.RetryAfter = int(pause / time.Second)
			}
			fail(t, f)
		},
		Flood: func(t *testing.T) { fail(t, cloud.Fault{Kind: cloud.Garbage, Millis: 64 << 10, Count: 1}) },
		Lag: func(t *testing.T, lag time.Duration) {
			must(t, client.Configure(t.Context(), cloud.Config{ListLag: int(lag.Milliseconds())}))
		},
	}
}

// Resolve asks a fake by DNS: values sorted, nil for none.
func Resolve(t *testing.T, server, name, typ string) []string {
	t.Helper()
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[typ])
	answer, err := mdns.ExchangeContext(t.Context(), q, server)
	if err != nil {
		t.Fatalf("resolve %s: %v", name, err)
	}
	var out []string
	for _, rr := range answer.Answer {
		if mdns.TypeToString[rr.Header().Rrtype] == typ {
			out = append(out, strings.TrimSuffix(mdns.Field(rr, 1), "."))
		}
	}
	slices.Sort(out)
	return out
}
