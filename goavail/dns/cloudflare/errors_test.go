package cloudflare

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/goavail/dns"
)

func TestRateLimit(t *testing.T) {
	for header, want := range map[string]struct {
		left int
		wait time.Duration
		ok   bool
	}{
		`"default";r=50;t=30`:                 {50, 30 * time.Second, true},
		`"default"; r=0; t=299`:               {0, 299 * time.Second, true},
		`"default";r=0;t=99999999`:            {0, time.Hour, true},
		`"default";r=0`:                       {},
		`"default";t=30`:                      {},
		``:                                    {},
		`"default";r=-1;t=30`:                 {},
		`"default";r=x;t=30`:                  {},
		`"default";r=99999999999999999999;t=`: {},
	} {
		left, wait, ok := rateLimit(header)
		if ok != want.ok || ok && (left != want.left || wait != want.wait) {
			t.Errorf("%q: got %d %s %v", header, left, wait, ok)
		}
	}
}

func FuzzRateLimit(f *testing.F) {
	f.Add(`"default";r=50;t=30`)
	f.Fuzz(func(t *testing.T, header string) {
		if left, wait, ok := rateLimit(header); ok && (left < 0 || wait < 0 || wait > time.Hour) {
			t.Errorf("%q: %d %s", header, left, wait)
		}
	})
}

func TestFromEnv(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want Config
		ok   bool
	}{
		"a token":            {map[string]string{"CF_API_TOKEN": "t", "CF_API_KEY": "k", "CF_API_EMAIL": "e"}, Config{Token: "t"}, true},
		"the other name":     {map[string]string{"CLOUDFLARE_API_TOKEN": "t"}, Config{Token: "t"}, true},
		"a key":              {map[string]string{"CF_API_KEY": "k", "CF_API_EMAIL": "e"}, Config{Key: "k", Email: "e"}, true},
		"a key's other name": {map[string]string{"CLOUDFLARE_API_KEY": "k", "CLOUDFLARE_EMAIL": "e"}, Config{Key: "k", Email: "e"}, true},
		"a key of nobody":    {map[string]string{"CF_API_KEY": "k"}, Config{Key: "k"}, false},
		"nothing":            {},
	} {
		got := Config{}.FromEnv(func(key string) string { return tt.env[key] })
		if got.Token != tt.want.Token || got.Key != tt.want.Key || got.Email != tt.want.Email {
			t.Errorf("%s: got %+v", name, got)
		}
		if _, err := New(got); (err == nil) != tt.ok || err != nil && pancake.KindOf(err) != pancake.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A list of zones or accounts that is not found must not leave a lock behind.
func TestNoZones(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	p, err := New(Config{Token: "t", URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	failed := make(chan error, 2)
	go func() {
		for _, key := range []dns.Key{{Name: "www.example.org", Type: dns.A}, {Name: "pool", Type: dns.Pool}} {
			_, err := p.Read(ctx, []dns.Key{key})
			failed <- err
		}
	}()
	for range 2 {
		select {
		case err := <-failed:
			if err == nil {
				t.Error("read what is not there")
			}
		case <-ctx.Done():
			t.Fatal("never returned")
		}
	}
}
