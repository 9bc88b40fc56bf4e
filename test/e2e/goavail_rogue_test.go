//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// stepRogue lets strangers speak: agents in the right places that have another key, and
// noise. That the same agents are heard with the right key shows that it is the key.
func (c *gaCluster) stepRogue() {
	c.writer(0, 1, 2, 3, 4)
	must(c.t, c.dir, "goavail", "keygen", filepath.Join(c.dir, "other.key"))
	// One place of three does not reach the first target; with two more that is a majority.
	for _, i := range []int{0, 3, 4} {
		c.net.cut(c.t, i, 101)
	}
	defer c.net.mend(c.t)
	for _, i := range []int{3, 4} {
		c.stop(i)
		c.startWith(i, "other.key")
	}
	w := c.writer(0, 1, 2)
	for _, i := range []int{3, 4} {
		eventually(c.t, gaLimit, gaPlace(i)+" to say that t1 is down", func() error {
			s, err := c.status(i)
			if err == nil && s.Targets[0].Votes[i].Verdict != "down" {
				err = fmt.Errorf("it says %v", s.Targets[0].Votes[i])
			}
			return err
		})
	}
	refused := c.noise(w)
	c.stays(6*time.Second, 0, 1, 2, 3)
	s, err := c.status(w)
	if err != nil {
		c.t.Fatal(err)
	}
	if v := s.Targets[0]; v.Down != 1 || v.Up != 2 {
		c.t.Errorf("%d places count as down and %d as up; strangers are among them", v.Down, v.Up)
	}
	for _, i := range []int{3, 4} {
		c.stop(i)
		c.start(i)
	}
	took := c.answers(1, 2, 3)
	c.net.mend(c.t)
	c.answers(0, 1, 2, 3)
	c.row("strangers", fmt.Sprintf("2 agents with another key and %s changed nothing; with the right key the 2 were the majority", refused), took)
}

// noise sends what makes no sense to an agent, and checks that it answers as before.
func (c *gaCluster) noise(i int) string {
	c.t.Helper()
	const packets = 2000
	dice := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 1400)
	address := c.net.hosts[i].ip
	udp, err := net.Dial("udp", address+":7951")
	if err != nil {
		c.t.Fatal(err)
	}
	defer udp.Close()
	for n := range packets {
		_, _ = dice.Read(buf) // it never fails
		_, _ = udp.Write(buf[:1+n%len(buf)])
	}
	for n := range 50 {
		if tcp, err := net.DialTimeout("tcp", address+":7951", time.Second); err == nil {
			_, _ = tcp.Write(buf[:1+n*20])
			_ = tcp.Close()
		}
	}
	for _, body := range []string{"", "{", `{"about":17}`, `{"about":"t1"}`, strings.Repeat("x", 1<<20)} {
		for _, path := range []string{"drain", "hold", "apply", "nothing"} {
			resp, err := http.Post("http://"+address+":7950/v1/"+path, "application/json", strings.NewReader(body))
			if err != nil {
				continue // it need not read so much
			}
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				c.t.Errorf("without a token %s was answered with %s", path, resp.Status)
			}
		}
	}
	if _, err := c.status(i); err != nil {
		c.t.Errorf("after the noise: %v", err)
	}
	return fmt.Sprintf("%d packets of noise", packets)
}
