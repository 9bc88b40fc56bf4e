package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	mdns "github.com/miekg/dns"
)

const secret = "c2VjcmV0IG9mIHRoZSBiZW5jaG1hcmsgb2YgZ29hdmFpbA=="

const namedConf = `
options {
	directory "%[1]s";
	listen-on port 5399 { 127.0.0.1; }; // BIND listens on addresses of interfaces only
	listen-on-v6 { none; };
	pid-file none;
	session-keyfile none;
	recursion no;
	notify no;
};
controls { };
key goavail { algorithm hmac-sha256; secret "%[2]s"; };
zone "bench.test" { type primary; file "zone"; update-policy { grant goavail zonesub A TXT; }; };
`

const zoneFile = "$TTL 600\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"

// bind is a name server.
type bind struct {
	addr string
	cmd  *exec.Cmd
}

func startBind(ctx context.Context, dir string) (*bind, error) {
	path, err := filepath.Abs("bin/tools/bind/named")
	if err == nil {
		if _, statErr := os.Stat(path); statErr != nil {
			path, err = exec.LookPath("named")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("BIND is missing: run scripts/bind.sh: %w", err)
	}
	for name, text := range map[string]string{"named.conf": fmt.Sprintf(namedConf, dir, secret), "zone": zoneFile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	b := &bind{addr: "127.0.0.1:5399", cmd: exec.Command(path, "-f", "-4", "-n", "1", "-c", filepath.Join(dir, "named.conf"))}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if answer, err := mdns.Exchange(new(mdns.Msg).SetQuestion(zone+".", mdns.TypeSOA), b.addr); err == nil && answer.Authoritative {
			return b, nil
		}
	}
	b.stop()
	return nil, fmt.Errorf("BIND does not answer at %s", b.addr)
}

func (b *bind) stop() {
	_ = b.cmd.Process.Kill() // it may have ended
	_ = b.cmd.Wait()
}

// update changes one value, without any mark.
func (b *bind) update(ctx context.Context, name, value string, add bool) error {
	rr, err := mdns.NewRR(fmt.Sprintf("%s. 5 IN A %s", name, value))
	if err != nil {
		return err
	}
	m := new(mdns.Msg).SetUpdate(zone + ".")
	if add {
		m.Insert([]mdns.RR{rr})
	} else {
		m.Remove([]mdns.RR{rr})
	}
	m.SetTsig("goavail.", mdns.HmacSHA256, 300, time.Now().Unix())
	client := mdns.Client{Net: "tcp", Timeout: 5 * time.Second, TsigSecret: map[string]string{"goavail.": secret}}
	answer, _, err := client.ExchangeContext(ctx, m, b.addr)
	if err == nil && answer.Rcode != mdns.RcodeSuccess {
		err = fmt.Errorf("BIND answers %s", mdns.RcodeToString[answer.Rcode])
	}
	return err
}
