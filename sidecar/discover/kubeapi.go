package discover

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The bounds of what the API may send, in bytes and objects.
const (
	maxKubePage    = 32 << 20
	maxKubeEvent   = 4 << 20
	maxKubeSecret  = 1 << 20
	maxKubeObjects = 50_000
	kubePage       = 500 // objects that are asked for at once
)

const (
	// kubeWatch is how long one wait for changes lasts, with up to a quarter more, so that
	// not all Sidecars begin anew together. kubeSlack is how much later it is given up.
	kubeWatch = 5 * time.Minute
	kubeSlack = 15 * time.Second
)

// kubeAPI speaks to Kubernetes' API.
type kubeAPI struct {
	base   *url.URL
	creds  string
	client *http.Client
	// timeout bounds a request for a page.
	timeout time.Duration

	mu    sync.Mutex
	token string
	read  bool // the token has been read
}

func newKubeAPI(base *url.URL, creds string, timeout time.Duration) *kubeAPI {
	a := &kubeAPI{base: base, creds: creds, timeout: timeout}
	a.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: a.tls(), ResponseHeaderTimeout: timeout, TLSHandshakeTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
	}, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token is for this server alone
	}}
	return a
}

// tls trusts the cluster's own authority, and the system's beside it, as Sidecar does.
func (a *kubeAPI) tls() *tls.Config {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if pem, err := a.secret("ca.crt"); err == nil {
		roots.AppendCertsFromPEM(pem) // without any the system's are left
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// secret reads a file of the service account.
func (a *kubeAPI) secret(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(a.creds, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKubeSecret))
}

// bearer is the token, read again if it was refused. "" is for an API that wants none.
func (a *kubeAPI) bearer(refused string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.read || refused != "" && a.token == refused {
		b, err := a.secret("token")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		a.token, a.read = strings.TrimSpace(string(b)), true
	}
	return a.token, nil
}

// kubeError is an answer that is none.
type kubeError struct {
	status int
	text   string
}

func (e *kubeError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s: %s", e.status, http.StatusText(e.status), e.text))
}

// expired reports whether an answer says that the version which was asked for is too old.
func expired(err error) bool {
	e, ok := errors.AsType[*kubeError](err)
	return ok && e.status == http.StatusGone
}

// get asks for something. After a 401 the token is read again: they are renewed on disk.
func (a *kubeAPI) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	refused := ""
	for {
		token, err := a.bearer(refused)
		if err != nil {
			return nil, fmt.Errorf("the token for kubernetes: %w", err)
		}
		target := *a.base
		target.Path, target.RawQuery = path, query.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := a.client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what there is of it
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || refused != "" || token == "" {
			return nil, &kubeError{resp.StatusCode, kubeMessage(text)}
		}
		refused = token
	}
}

// kubeMessage is what an answer says in words.
func kubeMessage(text []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &status) != nil {
		status.Message = string(text)
	}
	return note(status.Message)
}
