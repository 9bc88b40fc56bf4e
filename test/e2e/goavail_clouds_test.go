//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake/test/fakecloud/cloud"
	"github.com/pancake-stack/pancake/test/fakecloud/cloudflare"
	"github.com/pancake-stack/pancake/test/fakecloud/route53"
)

// TestGoavailCloudflare is the suite with Cloudflare's API, as the fake has it.
func TestGoavailCloudflare(t *testing.T) {
	n := newGoavailNet(t)
	ready := startFake(t, n, "cloudflare")
	fake := cloud.Client{URL: ready.HTTP}
	err := fake.Add(t.Context(), cloudflare.State{
		Zones:   []cloudflare.Zone{{Name: gaZone}},
		Tokens:  []cloudflare.Token{{Token: "suite", Zones: []string{gaZone}}},
		Records: []cloudflare.Record{{Name: "foreign." + gaZone, Type: "A", Content: "192.0.2.99", TTL: 300, Comment: "by hand"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	goavailSuite(t, &gaProvider{
		name: "Cloudflare", dns: ready.DNS, env: []string{"CF_API_TOKEN=suite"},
		yaml: fmt.Sprintf("{name: cloudflare, url: \"%s/client/v4\", zones: [%s], requests: 30000, timeout: 1s}", ready.HTTP, gaZone),
		fail: fake429(fake), evidence: func(c *gaCluster) []string { return cloudflareEvidence(c, fake) },
	}, n)
}

// TestGoavailRoute53 is the suite with Route 53's API, as the fake has it.
func TestGoavailRoute53(t *testing.T) {
	n := newGoavailNet(t)
	ready := startFake(t, n, "route53")
	fake := cloud.Client{URL: ready.HTTP}
	ttl := int64(300)
	err := fake.Add(t.Context(), route53.State{
		Zones: []route53.Zone{{Name: gaZone + "."}}, Keys: []route53.Key{{ID: "SUITE"}},
		Sets: []route53.RRSet{{Name: "foreign." + gaZone + ".", Type: "A", TTL: &ttl, Records: []route53.Value{{Value: "192.0.2.99"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	goavailSuite(t, &gaProvider{
		name: "Route 53", dns: ready.DNS,
		env:  []string{"AWS_ACCESS_KEY_ID=SUITE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null"},
		yaml: fmt.Sprintf("{name: route53, url: \"%s\", zones: [%s], per_second: 50, timeout: 1s}", ready.HTTP, gaZone),
		fail: fake429(fake), evidence: func(c *gaCluster) []string { return route53Evidence(c, fake) },
	}, n)
}

// startFake builds a fake and runs it where the places reach it.
func startFake(t *testing.T, n *gaNet, name string) cloud.Ready {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fakecloud")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../fakecloud/cmd/fakecloud").CombinedOutput(); err != nil {
		t.Fatalf("build the fake: %v\n%s", err, out)
	}
	return cloud.Start(t, path, name, "-http", n.prefix+"254:0", "-dns", n.prefix+"254:0")
}

// fake429 makes the API fail in all ways, one after the other, until it is mended.
func fake429(fake cloud.Client) func(*testing.T, time.Duration) func() {
	ways := []cloud.Fault{
		{Kind: cloud.Status, Status: 500},
		{Kind: cloud.Status, Status: 429, RetryAfter: 1},
		{Kind: cloud.TimeoutAfter, Method: "write"},
		{Kind: cloud.ResetAfter, Method: "write"},
		{Kind: cloud.StatusAfter, Method: "write", Status: 503},
	}
	return func(t *testing.T, outage time.Duration) func() {
		t.Helper()
		use := func(f cloud.Fault) {
			if err := fake.Mend(t.Context()); err != nil {
				t.Error(err)
			}
			if f.Kind == "" {
				return
			}
			if err := fake.Fail(t.Context(), f); err != nil {
				t.Error(err)
			}
		}
		stop, done := make(chan struct{}), make(chan struct{})
		use(ways[0])
		go func() {
			defer close(done)
			for i := 1; ; i++ {
				select {
				case <-stop:
					use(cloud.Fault{})
					return
				case <-time.After(outage / time.Duration(len(ways))):
					use(ways[i%len(ways)])
				}
			}
		}()
		return func() {
			close(stop)
			<-done
		}
	}
}

// cloudflareEvidence reads the fake's log: what was called, and whether anything was that
// must not be.
func cloudflareEvidence(c *gaCluster, fake cloud.Client) []string {
	c.t.Helper()
	log, err := fake.Log(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var state cloudflare.State
	if err := fake.State(c.t.Context(), &state); err != nil {
		c.t.Fatal(err)
	}
	foreign := ""
	for _, r := range state.Records {
		if r.Name == "foreign."+gaZone {
			foreign = r.ID
			if r.Comment != "by hand" || r.Content != "192.0.2.99" {
				c.t.Errorf("the foreign record is now %+v", r)
			}
		}
	}
	if foreign == "" {
		c.t.Error("the foreign record is gone")
	}
	reads, writes, faults := 0, 0, 0
	for _, r := range log {
		if r.Fault != "" {
			faults++
		}
		if !r.Write() {
			reads++
			continue
		}
		writes++
		var body struct {
			Deletes, Patches, Puts []struct{ ID string }
			Posts                  []cloudflare.Record
		}
		switch {
		case r.Method == "PUT" || !strings.Contains(r.Path, "/dns_records"):
			c.t.Errorf("forbidden: %s %s", r.Method, r.Path)
		case strings.Contains(r.Path+r.Body, foreign):
			c.t.Errorf("the foreign record was touched: %s %s %s", r.Method, r.Path, r.Body)
		case !strings.HasSuffix(r.Path, "/batch"):
		case json.Unmarshal([]byte(r.Body), &body) != nil:
			c.t.Errorf("a batch that is none: %s", r.Body)
		case len(body.Puts) > 0 || len(body.Deletes) > 0 && len(body.Posts) > 0:
			c.t.Errorf("forbidden: %s", r.Body) // deletes of a batch come before its posts
		}
		for _, p := range body.Posts {
			if p.Name != gaName {
				c.t.Errorf("%s was made", p.Name)
			}
		}
	}
	if writes == 0 || faults == 0 {
		c.t.Errorf("%d writes, %d faults: the log proves nothing", writes, faults)
	}
	return []string{fmt.Sprintf("the fake's log: %d reads and %d writes, %d of them with a fault; no PUT, no batch that deletes and creates, nothing foreign touched", reads, writes, faults)}
}

// route53Evidence is cloudflareEvidence for Route 53.
func route53Evidence(c *gaCluster, fake cloud.Client) []string {
	c.t.Helper()
	log, err := fake.Log(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	change := regexp.MustCompile(`(?s)<Change>.*?</Change>`)
	field := func(text, name string) string {
		_, rest, _ := strings.Cut(text, "<"+name+">")
		value, _, _ := strings.Cut(rest, "</"+name+">")
		return strings.TrimSuffix(value, ".")
	}
	reads, writes, faults := 0, 0, 0
	for _, r := range log {
		if r.Fault != "" {
			faults++
		}
		if !r.Write() {
			reads++
			continue
		}
		writes++
		left := -1 // values of the set after the batch, if it is deleted
		for _, one := range change.FindAllString(r.Body, -1) {
			name, kind := field(one, "Name"), field(one, "Type")
			if name+kind != gaName+"A" && name+kind != "_goavail-a."+gaName+"TXT" {
				c.t.Errorf("forbidden: %s", one)
			}
			if kind != "A" {
				continue
			}
			if field(one, "Action") == "DELETE" {
				left = max(left, 0)
			} else {
				left = strings.Count(one, "<Value>")
			}
		}
		if left == 0 {
			c.t.Errorf("a batch that empties the set: %s", r.Body)
		}
	}
	if writes == 0 || faults == 0 {
		c.t.Errorf("%d writes, %d faults: the log proves nothing", writes, faults)
	}
	return []string{fmt.Sprintf("the fake's log: %d reads and %d batches, %d of them with a fault; none leaves the set empty, nothing foreign touched", reads, writes, faults)}
}
