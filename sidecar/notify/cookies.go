package notify

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"sync"
)

const (
	// maxCookies is how many cookies of a listener are kept besides our own. A balancer
	// needs one or two.
	maxCookies = 16
	// maxCookie is the size of the largest that is kept, in bytes: what RFC 6265 asks of a client.
	maxCookie = 4096
)

// cookies are those of one listener. Balancers keep to one server by them: some by ours,
// which NinesStack Sidecar sends for that, others by one that they set themselves. A
// listener that sets ever new ones is nobody to keep them for: beyond maxCookies all of
// its own are forgotten.
type cookies struct {
	target *url.URL
	own    *http.Cookie

	mu   sync.Mutex
	jar  *cookiejar.Jar
	kept map[[3]string]bool // by host, path and name
}

func newCookies(target *url.URL, own *http.Cookie) *cookies {
	c := &cookies{target: target, own: own}
	c.forget()
	return c
}

// forget leaves our own cookie alone.
func (c *cookies) forget() {
	c.jar, _ = cookiejar.New(nil) // without options it cannot fail
	c.jar.SetCookies(c.target, []*http.Cookie{c.own})
	c.kept = map[[3]string]bool{}
}

// SetCookies is http.CookieJar's.
func (c *cookies) SetCookies(u *url.URL, list []*http.Cookie) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cookie := range list {
		if len(cookie.Name)+len(cookie.Value)+len(cookie.Path)+len(cookie.Domain) > maxCookie {
			continue
		}
		key := [3]string{u.Host + cookie.Domain, cookie.Path, cookie.Name}
		if !c.kept[key] && len(c.kept) >= maxCookies {
			c.forget()
		}
		c.kept[key] = true
		c.jar.SetCookies(u, []*http.Cookie{cookie})
	}
}

// Cookies is http.CookieJar's.
func (c *cookies) Cookies(u *url.URL) []*http.Cookie {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.jar.Cookies(u)
}
