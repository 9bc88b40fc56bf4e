//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// get asks Traefik at addr for / of host and returns the body of a 200.
func get(ctx context.Context, client *http.Client, addr, host string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return string(body), nil
}

// newClient keeps connections open, as browsers and proxies do.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 16,
	}}
}

// load sends requests from several clients without a pause longer than 5 ms
// until it is stopped, five minutes at most.
type load struct {
	sent, failed atomic.Int64
	mu           sync.Mutex
	firstError   error
	cancel       context.CancelFunc
	wg           sync.WaitGroup
}

func startLoad(t *testing.T, addr, host string, clients int) *load {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	l := &load{cancel: cancel}
	for range clients {
		l.wg.Go(func() { l.client(ctx, addr, host) })
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) client(ctx context.Context, addr, host string) {
	client := newClient()
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		// A request that is under way when the load stops is still waited for.
		_, err := get(context.WithoutCancel(ctx), client, addr, host)
		l.sent.Add(1)
		if err != nil {
			l.failed.Add(1)
			l.mu.Lock()
			if l.firstError == nil {
				l.firstError = fmt.Errorf("at %s: %w", time.Now().Format("15:04:05.000"), err)
			}
			l.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}
