package notify

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// sent are the cookies that a listener would get, as name=value.
func sent(c *cookies, u *url.URL) map[string]string {
	out := map[string]string{}
	for _, cookie := range c.Cookies(u) {
		out[cookie.Name] = cookie.Value
	}
	return out
}

// A balancer's own cookie comes back to it, and a listener that sets ever new ones fills
// nothing.
func TestCookiesAreBounded(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "127.62.2.1:80", Path: "/sidecar/update"}
	c := newCookies(u, &http.Cookie{Name: "sidecar-session-host", Value: "n1", Path: "/"})
	set := func(cookies ...*http.Cookie) { c.SetCookies(u, cookies) }
	for i := range 100 {
		set(&http.Cookie{Name: "SERVERID", Value: fmt.Sprint(i), Path: "/"}) // as HAProxy does, in each answer
	}
	if got := sent(c, u); len(got) != 2 || got["SERVERID"] != "99" || got["sidecar-session-host"] != "n1" {
		t.Errorf("a balancer gets %v", got)
	}
	for i := range 1000 {
		set(&http.Cookie{Name: fmt.Sprint("tracking-", i), Value: "x", Path: "/"}, &http.Cookie{Name: "here", Value: "x", Path: fmt.Sprint("/sidecar/", i)})
		if got := sent(c, u); len(got) > maxCookies+1 || len(c.kept) > maxCookies || got["sidecar-session-host"] != "n1" {
			t.Fatalf("after %d answers %d cookies are kept, and sent are %v", i, len(c.kept), got)
		}
	}
	set(&http.Cookie{Name: "large", Value: strings.Repeat("x", maxCookie)})
	if got := sent(c, u); got["large"] != "" {
		t.Error("a cookie of more than 4 kB is kept")
	}
	if got := sent(c, &url.URL{Scheme: "http", Host: "127.62.2.2:80"}); len(got) != 0 {
		t.Errorf("another host gets %v", got)
	}
}
