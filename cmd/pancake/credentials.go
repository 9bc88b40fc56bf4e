package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/internal/serve"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// tokenVariable holds an API token. It is no flag: everybody on a machine can see
// the arguments of a process.
const tokenVariable = "PANCAKE_TOKEN"

// credentials are what "pancake login" keeps.
type credentials struct {
	Scheduler string `yaml:"scheduler"` // the address of the API, with https://
	Cluster   string `yaml:"cluster"`
	Token     string `yaml:"token"`
	CA        string `yaml:"ca"` // PEM
	// Checked is when the CAs were last asked for.
	Checked time.Time `yaml:"checked"`
}

// checkEvery is how often the CAs are asked for again. While a CA is replaced both
// are trusted for a day or more, unless an operator cuts that short; whoever uses
// the CLI in that time needs no new login.
const checkEvery = 6 * time.Hour

// checkTimeout bounds how long a command waits for the CAs. The next one will try again.
const checkTimeout = 2 * time.Second

// credentialsPath is where they are kept, "" when there is no home directory.
func credentialsPath(getenv func(string) string) string {
	dir := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); dir == "" && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "pancake", "credentials.yml")
}

// credentials reads what login kept; zero when nobody is logged in. It is Invalid
// when others can read the file, or it is damaged.
func (e *environment) credentials() (credentials, error) {
	path := credentialsPath(e.getenv)
	if path == "" {
		return credentials{}, nil
	}
	text, err := identity.ReadPrivate(path)
	if pancake.KindOf(err) == pancake.NotFound {
		return credentials{}, nil
	}
	if err != nil {
		return credentials{}, err
	}
	var c credentials
	if err := yaml.Load(text, &c, yaml.WithKnownFields()); err != nil {
		// The decoder's own words could repeat the token.
		return credentials{}, pancake.Errorf(pancake.Invalid, "%s is damaged; run \"pancake login\" again, or remove it", path)
	}
	return c, nil
}

// save keeps the credentials and returns the file's name.
func (c credentials) save(getenv func(string) string) (string, error) {
	path := credentialsPath(getenv)
	if path == "" {
		return "", pancake.Errorf(pancake.Invalid, "there is no place for the credentials: set HOME or XDG_CONFIG_HOME")
	}
	text, err := yaml.Dump(c)
	if err != nil {
		return "", err
	}
	return path, identity.WritePrivate(path, text)
}

// client returns the client of the scheduler that the flags name, else of the one
// that somebody is logged in to, with its credentials. They are good for every
// scheduler of that cluster: no token leaves before the other end has shown that it is one.
func (e *environment) client(ctx context.Context) (*client.Client, error) {
	kept, err := e.credentials()
	if err != nil {
		return nil, err
	}
	c := &client.Client{URL: schedulerURL(e.global.scheduler), User: e.user()}
	if !e.named && kept.Scheduler != "" {
		c.URL = kept.Scheduler
	}
	if !strings.HasPrefix(c.URL, "https://") {
		return c, nil
	}
	if e.global.cert != "" {
		return c, e.certify(c, kept)
	}
	if c.Token, err = e.token(kept.Token); err != nil {
		return nil, err
	}
	trusted, cluster, err := e.trusted(kept)
	if err != nil || trusted == nil {
		return c, err // nothing but the system's CAs is trusted
	}
	c.HTTP = client.NewHTTP(identity.TrustTLS(trusted, e.expectScheduler(cluster)))
	if c.URL == kept.Scheduler && e.global.ca == "" && e.now().Sub(kept.Checked) >= checkEvery {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		if view, err := c.CA(ctx); err == nil { // why it fails, the command itself will say
			return c, e.trustAlso(kept, view)
		}
	}
	return c, nil
}

// trustAlso keeps the CAs that a scheduler, which is trusted, says that are.
func (e *environment) trustAlso(kept credentials, view client.CAView) error {
	bundle, err := bundleOf(view)
	if err != nil {
		return err
	}
	kept.CA, kept.Checked = string(bundle.PEM()), e.now()
	_, err = kept.save(e.getenv)
	return err
}

func (e *environment) expectScheduler(cluster string) identity.Expect {
	return identity.Expect{Cluster: cluster, Kinds: []identity.Kind{identity.Scheduler}, Now: e.now}
}

// schedulerURL completes an address without a scheme. What others can reach speaks
// TLS, unless somebody writes http:// on purpose.
func schedulerURL(addr string) string {
	if strings.Contains(addr, "://") {
		return strings.TrimRight(addr, "/")
	}
	if serve.Loopback(addr) {
		return "http://" + addr
	}
	return "https://" + addr
}

// trusted is the CAs to know the scheduler by, and the name of its cluster if it
// is known.
func (e *environment) trusted(kept credentials) (identity.Bundle, string, error) {
	if e.global.ca == "" && kept.CA == "" {
		return nil, "", nil
	}
	if e.global.ca == "" {
		bundle, err := identity.ParseBundlePEM([]byte(kept.CA))
		if err != nil {
			return nil, "", pancake.Errorf(pancake.Invalid, "%s: %w; run \"pancake login\" again", credentialsPath(e.getenv), err)
		}
		return bundle, kept.Cluster, nil
	}
	text, err := readBounded(e.global.ca)
	if err != nil {
		return nil, "", pancake.Errorf(pancake.Invalid, "--ca: cannot read %s: %w", e.global.ca, unwrapPath(err))
	}
	bundle, err := identity.ParseBundlePEM(text)
	if err != nil {
		return nil, "", pancake.Errorf(pancake.Invalid, "--ca %s: %w", e.global.ca, err)
	}
	return bundle, "", nil
}

// token is the API token that --token-file or PANCAKE_TOKEN gives, else the one
// that was kept.
func (e *environment) token(kept string) (string, error) {
	from, text := tokenVariable, strings.TrimSpace(e.getenv(tokenVariable))
	if e.global.tokenFile != "" {
		content, err := identity.ReadPrivate(e.global.tokenFile)
		if err != nil {
			return "", pancake.Errorf(pancake.Invalid, "--token-file: %w", err)
		}
		from, text = "--token-file "+e.global.tokenFile, strings.TrimSpace(string(content))
		if text == "" {
			return "", pancake.Errorf(pancake.Invalid, "%s: the file is empty", from)
		}
	}
	if text == "" {
		return kept, nil
	}
	if _, err := identity.ParseToken(identity.APIToken, text); err != nil {
		return "", pancake.Errorf(pancake.Invalid, "%s: %w", from, err)
	}
	return text, nil
}

// fetchTrust asks a scheduler, which is known by its CA's fingerprint, for all CAs
// that its cluster trusts.
func (e *environment) fetchTrust(ctx context.Context, url string, ca identity.Fingerprint) (client.CAView, identity.Bundle, error) {
	c := &client.Client{URL: url, HTTP: client.NewHTTP(identity.JoinTLSAt(ca, e.now))}
	view, err := c.CA(ctx)
	if identity.ReasonOf(err) == identity.WrongCA {
		return view, nil, pancake.Errorf(pancake.Unauthenticated,
			"the CA of the scheduler at %s is not the one with the fingerprint %s: this is not the scheduler you mean, or its CA was replaced. Compare with \"pancake ca show\" on a machine that you trust", url, ca)
	}
	if err != nil {
		return view, nil, err
	}
	bundle, err := bundleOf(view)
	return view, bundle, err
}

// bundleOf reads the certificates of a CA view. It fails with Unavailable: a
// scheduler sends what is in order.
func bundleOf(view client.CAView) (identity.Bundle, error) {
	var text strings.Builder
	for _, ca := range view.CAs {
		text.WriteString(ca.Certificate)
	}
	bundle, err := identity.ParseBundlePEM([]byte(text.String()))
	if err != nil {
		return nil, pancake.Errorf(pancake.Unavailable, "the scheduler sent CA certificates that are not in order: %w", err)
	}
	return bundle, nil
}

// forget removes the credentials. It reports whether there were any.
func forget(getenv func(string) string) (bool, error) {
	path := credentialsPath(getenv)
	if path == "" {
		return false, nil
	}
	switch err := os.Remove(path); {
	case errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, pancake.Errorf(pancake.Invalid, "cannot remove %s: %w", path, unwrapPath(err))
	}
	return true, nil
}
