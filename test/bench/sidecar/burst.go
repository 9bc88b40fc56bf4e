package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/test/bench/report"
)

// burstSize is how many services start at once.
const burstSize = 2000

// burstPart starts 2,000 services on one of three nodes at once, while somebody
// asks that node and another for all of them, over and over.
func burstPart(ctx context.Context, _ options) (_ []report.Result, err error) {
	s := shape{nodes: 3, services: 10}
	c, err := startCluster(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var took samples
	var failed error
	var askers sync.WaitGroup
	for _, n := range []*node{c.nodes[0], c.nodes[2]} {
		askers.Go(func() {
			for asking.Err() == nil {
				d, err := ask(asking, n.url+"/api/services.json")
				mu.Lock()
				if err == nil {
					took = append(took, d)
				} else if asking.Err() == nil {
					failed = err
				}
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	begin := time.Now()
	for range burstSize {
		c.nodes[0].engine.run(c.id(), "burst", "HttpGet", c.checked, 34000)
	}
	err = c.until(ctx, 3*time.Minute, c.nodes, func(snap *catalog.Snapshot) bool {
		return count(snap, pancake.Alive) == burstSize+s.nodes*s.services
	})
	all := time.Since(begin)
	stop()
	askers.Wait()
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, fmt.Errorf("the API: %w", failed)
	}
	seconds, millis := 5.0, 100.0
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	results := []report.Result{
		{
			Name: "2,000 services at once: all ALIVE on all nodes", Value: all.Seconds(), Unit: "s", Better: report.Lower, Goal: &seconds,
			Peer: peerName + " (1,136 of 2,000)", PeerValue: 138,
		},
		{Name: "meanwhile: GET /api/services.json p50", Value: ms(took.at(0.5)), Unit: "ms", Better: report.Lower},
		{Name: "meanwhile: GET /api/services.json p99", Value: ms(took.at(0.99)), Unit: "ms", Better: report.Lower, Goal: &millis},
		{Name: "meanwhile: GET /api/services.json worst", Value: ms(took.at(1)), Unit: "ms", Better: report.Lower, Peer: peerName, PeerValue: 35700},
	}
	return results, report.Print(os.Stdout, fmt.Sprintf("burst of 2,000 services on one of 3 nodes, %d answers", len(took)), results)
}

// ask times a GET with the whole answer.
func ask(ctx context.Context, url string) (time.Duration, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return time.Since(begin), err
}
