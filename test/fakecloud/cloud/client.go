package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Client is a test's hand on a fake: what it makes go wrong, and what it has seen.
type Client struct {
	URL string // of the fake, without a slash at the end
}

// Log returns the requests since the start or the last Forget.
func (c Client) Log(ctx context.Context) ([]Request, error) {
	var log []Request
	return log, c.call(ctx, "GET", "log", nil, &log)
}

// Forget empties the log.
func (c Client) Forget(ctx context.Context) error { return c.call(ctx, "DELETE", "log", nil, nil) }

// Fail adds a fault.
func (c Client) Fail(ctx context.Context, f Fault) error {
	return c.call(ctx, "POST", "faults", f, nil)
}

// Mend removes all faults.
func (c Client) Mend(ctx context.Context) error { return c.call(ctx, "DELETE", "faults", nil, nil) }

// Configure replaces the configuration.
func (c Client) Configure(ctx context.Context, cfg Config) error {
	return c.call(ctx, "POST", "config", cfg, nil)
}

// Add adds to what the fake holds, as if somebody else had done so.
func (c Client) Add(ctx context.Context, state any) error {
	return c.call(ctx, "POST", "state", state, nil)
}

// State reads all that the fake holds.
func (c Client) State(ctx context.Context, into any) error {
	return c.call(ctx, "GET", "state", nil, into)
}

func (c Client) call(ctx context.Context, method, name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+"/_control/"+name, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, name, resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
