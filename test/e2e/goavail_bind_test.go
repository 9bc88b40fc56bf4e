//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

const gaSecret = "c2VjcmV0IG9mIHRoZSBnb2F2YWlsIHN1aXRlLi4uLi4="

const gaNamed = `
options {
	directory "%[1]s";
	listen-on port 5353 { %[2]s; };
	listen-on-v6 { none; };
	pid-file none;
	session-keyfile none;
	recursion no;
	notify no;
};
controls { };
logging {
	channel updates { file "%[1]s/updates.log"; severity info; print-time yes; };
	category update { updates; };
	category update-security { updates; };
};
key goavail { algorithm hmac-sha256; secret "%[3]s"; };
zone "example.test" {
	type primary;
	file "zone";
	update-policy { grant goavail zonesub A AAAA CNAME TXT; };
};
`

const gaZoneFile = `$TTL 600
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
foreign IN A 192.0.2.99
`

// TestGoavailBind is the suite with BIND and dynamic updates.
func TestGoavailBind(t *testing.T) {
	n := newGoavailNet(t)
	goavailSuite(t, bindProvider(t, n), n, gaStep{"strangers", (*gaCluster).stepRogue})
}

func bindProvider(t *testing.T, n *gaNet) *gaProvider {
	t.Helper()
	path, err := filepath.Abs("../../bin/tools/bind/named")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("named"); err != nil {
			t.Fatal("BIND is missing: run scripts/bind.sh")
		}
	}
	dir, host := t.TempDir(), n.prefix+"254"
	key := fmt.Sprintf("key \"goavail\" {\n\talgorithm hmac-sha256;\n\tsecret \"%s\";\n};\n", gaSecret)
	for name, text := range map[string]string{"named.conf": fmt.Sprintf(gaNamed, dir, host, gaSecret), "zone": gaZoneFile, "tsig.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := startProgram(t, path, "-f", "-4", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	addr := host + ":5353"
	eventually(t, gaLimit, "BIND to answer", func() error {
		answer, err := mdns.Exchange(new(mdns.Msg).SetQuestion(gaZone+".", mdns.TypeSOA), addr)
		if err == nil && !answer.Authoritative {
			err = errors.New("not authoritative")
		}
		return err
	})
	// The wrapper that scripts/bind.sh makes becomes named, so that signals reach it.
	signal := func(sig syscall.Signal) {
		if err := server.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	resume := func() { signal(syscall.SIGCONT) }
	var once sync.Once
	return &gaProvider{
		name: "BIND", dns: addr,
		yaml: fmt.Sprintf("{name: rfc2136, server: \"%s\", zones: [%s], tsig_key_file: %s, timeout: 1s}", addr, gaZone, filepath.Join(dir, "tsig.key")),
		fail: func(t *testing.T, _ time.Duration) func() {
			signal(syscall.SIGSTOP) // neither queries nor updates are answered
			t.Cleanup(func() { once.Do(resume) })
			return func() { once.Do(resume) }
		},
		evidence: func(c *gaCluster) []string { return bindEvidence(c, filepath.Join(dir, "updates.log"), addr) },
	}
}

// bindEvidence reads BIND's own log of updates: who touched what, and when.
func bindEvidence(c *gaCluster, log, addr string) []string {
	c.t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		c.t.Fatal(err)
	}
	line := regexp.MustCompile(`^(\S+ \S+) .* (\d+\.\d+\.\d+\.\d+)#\d+/key goavail: updating zone 'example.test/IN': (adding|deleting) an RR at '?([^\s']+)'? (\S+)`)
	adds, removes, denied := 0, 0, 0
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSpace(l)
		if strings.Contains(l, "denied") {
			denied++
		}
		if strings.Contains(l, "approved") || !strings.Contains(l, "an RR at") && !strings.Contains(l, "rrset at") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil || m[4]+m[5] != gaName+"A" && m[4]+m[5] != "_goavail-a."+gaName+"TXT" {
			c.t.Errorf("BIND was told to change what is not ours: %s", l)
			continue
		}
		if m[3] == "adding" {
			adds++
		} else {
			removes++
		}
		at, err := time.ParseInLocation("02-Jan-2006 15:04:05.000", m[1], time.Local)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, b := range c.banned {
			if m[2] == c.net.hosts[b.place].ip && at.After(b.from) && at.Before(b.until) {
				c.t.Errorf("%s, which had no majority then, changed a record: %s", gaPlace(b.place), l)
			}
		}
	}
	if adds == 0 || removes == 0 || denied > 0 {
		c.t.Errorf("BIND's log: %d added, %d removed, %d denied", adds, removes, denied)
	}
	answer, err := mdns.Exchange(new(mdns.Msg).SetQuestion("foreign."+gaZone+".", mdns.TypeA), addr)
	if err != nil || len(answer.Answer) != 1 {
		c.t.Errorf("the foreign record: %v %v", answer, err)
	}
	return []string{fmt.Sprintf("BIND's log: %d records added, %d removed, all of %s or its mark; none denied; none by an address without a majority", adds, removes, gaName)}
}
