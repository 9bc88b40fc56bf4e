package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/api"
	"github.com/pancake-stack/pancake/goavail/client"
)

// agent answers with what the test gave it, and remembers what it was told.
type agent struct {
	status client.Status
	told   []string
	fail   error
}

func (a *agent) Status(_ context.Context, answers bool) client.Status {
	if answers {
		a.told = append(a.told, "answers")
	}
	return a.status
}

func (a *agent) History(limit int) []client.Entry {
	if limit == 0 {
		return nil
	}
	return []client.Entry{{ID: "1", Text: "x"}}
}

func (a *agent) Plan(context.Context) (client.Plan, error) {
	return client.Plan{Diff: []string{"+ x"}}, a.fail
}

func (a *agent) order(kind string, r client.Request) ([]client.Order, error) {
	a.told = append(a.told, kind+" "+r.About)
	return []client.Order{{Kind: kind, About: r.About}}, a.fail
}

func (a *agent) Apply(_ context.Context, r client.Request) ([]client.Order, error) {
	return a.order("apply", r)
}

func (a *agent) Hold(_ context.Context, r client.Request) ([]client.Order, error) {
	return a.order("hold", r)
}

func (a *agent) Drain(_ context.Context, r client.Request) ([]client.Order, error) {
	return a.order("drain", r)
}

func (a *agent) Restore(_ context.Context, r client.Request) ([]client.Order, error) {
	return a.order("restore", r)
}

func (a *agent) Adopt(_ context.Context, r client.Request) ([]client.Order, error) {
	return a.order("adopt", r)
}

func serve(t *testing.T, a *agent, token string) *httptest.Server {
	srv := httptest.NewServer(api.Handler(api.Config{Agent: a, Token: token, Metrics: prometheus.NewRegistry()}))
	t.Cleanup(srv.Close)
	return srv
}

func TestClientAndAPIUnderstandEachOther(t *testing.T) {
	a := &agent{status: client.Status{Place: "p1", Now: time.Unix(1_800_000_000, 0).UTC(), Targets: []client.Target{{Name: "t", Votes: []client.Vote{{Place: "p1", Verdict: "up"}}}}}}
	srv := serve(t, a, "secret")
	c := client.Client{URL: srv.URL + "/", Token: "secret"}
	ctx := t.Context()
	if got, err := c.Status(ctx, true); err != nil || !reflect.DeepEqual(got, a.status) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.History(ctx, 5); err != nil || len(got) != 1 || got[0].ID != "1" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.History(ctx, 0); err != nil || got == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Plan(ctx); err != nil || len(got.Diff) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for what, fn := range map[string]func(context.Context, client.Request) ([]client.Order, error){
		"apply": c.Apply, "hold": c.Hold, "drain": c.Drain, "restore": c.Restore, "adopt": c.Adopt,
	} {
		a.told = nil
		if got, err := fn(ctx, client.Request{About: "x"}); err != nil || len(got) != 1 || got[0].Kind != what || !reflect.DeepEqual(a.told, []string{what + " x"}) {
			t.Errorf("%s: %+v, %v, %v", what, got, err, a.told)
		}
	}
	a.fail = pancake.Errorf(pancake.NotFound, "there is no target x")
	if _, err := c.Drain(ctx, client.Request{}); pancake.KindOf(err) != pancake.NotFound || err.Error() != "there is no target x" {
		t.Error(err)
	}
	if _, err := c.Plan(ctx); pancake.KindOf(err) != pancake.Unavailable {
		t.Error(err)
	}
	c.Token = "wrong"
	if _, err := c.Status(ctx, false); pancake.KindOf(err) != pancake.Unauthenticated {
		t.Error(err)
	}
	srv.Close()
	if _, err := c.Status(ctx, false); pancake.KindOf(err) != pancake.Unavailable {
		t.Error(err)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	a := &agent{}
	srv := serve(t, a, "")
	for name, tt := range map[string]struct {
		method, path, kind, body string
		want                     int
	}{
		"a page in a browser": {"POST", "/v1/hold", "text/plain", `{}`, 400},
		"no JSON":             {"POST", "/v1/hold", "application/json", `x`, 400},
		"unknown field":       {"POST", "/v1/hold", "application/json", `{"abuot":"x"}`, 400},
		"too large":           {"POST", "/v1/hold", "application/json", `{"about":"` + strings.Repeat("x", 70<<10) + `"}`, 400},
		"get an order":        {"GET", "/v1/hold", "", "", 405},
		"limit":               {"GET", "/v1/history?limit=x", "", "", 400},
		"negative":            {"GET", "/v1/history?limit=-1", "", "", 400},
		"nothing there":       {"GET", "/v2", "", "", 404},
		"well":                {"POST", "/v1/hold", "application/json; charset=utf-8", `{}`, 200},
		"metrics":             {"GET", "/metrics", "", "", 200},
		"healthy":             {"GET", "/healthz", "", "", 200},
		"not ready":           {"GET", "/readyz", "", "", 503},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, srv.URL+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", tt.kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, tt.want)
		}
	}
	if len(a.told) != 1 {
		t.Errorf("the agent was told %v", a.told)
	}
	a.status.Provider.Read, a.status.Writer.Place = time.Now(), "p1"
	resp, err := http.Get(srv.URL + "/readyz")
	if err != nil || resp.StatusCode != 200 {
		t.Error(resp.StatusCode, err)
	}
	resp.Body.Close()
}

// A page whose name is made to point at this machine is of the same origin as we are.
func TestNamesAreRefusedWithoutAToken(t *testing.T) {
	a := &agent{}
	for _, tt := range []struct {
		host, token string
		want        int
	}{
		{"evil.example:7950", "", 403},
		{"evil.example", "", 403},
		{"localhost:7950", "", 200},
		{"[::1]:7950", "", 200},
		{"127.33.2.1", "", 200},
		{"goavail.example", "secret", 200},
	} {
		srv := serve(t, a, tt.token)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v1/hold", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+tt.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: %d, want %d", tt.host, resp.StatusCode, tt.want)
		}
	}
}
