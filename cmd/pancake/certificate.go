package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// certify has c show the certificate that --cert names. A token that was given for
// this command goes before it; the one that login kept is not sent.
func (e *environment) certify(c *client.Client, kept credentials) error {
	source, err := e.source(kept)
	if err != nil {
		return err
	}
	if c.Token, err = e.token(""); err != nil {
		return err
	}
	c.HTTP = client.NewHTTP(source.ClientTLS(e.expectScheduler(source.Identity().Cluster)))
	return nil
}

// source is the certificate that --cert names, and the CAs to know others by.
func (e *environment) source(kept credentials) (*identity.Source, error) {
	leaf, err := identity.ReadLeaf(e.global.cert, e.global.key)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--cert: %w", err)
	}
	if leaf.Bundle, err = e.trustedBeside(kept); err != nil {
		return nil, err
	}
	if _, err := leaf.Check(e.now()); err != nil {
		return nil, pancake.Errorf(pancake.KindOf(err), "--cert %s: %w", e.global.cert, err)
	}
	source, err := identity.NewSource(leaf)
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "--cert %s: %w", e.global.cert, err)
	}
	return source, nil
}

// dialer returns the client for the API of a part other than the scheduler. Over https://
// it shows the certificate that --cert names, and takes that kind only at the other end.
func (e *environment) dialer(address string, kind identity.Kind) (*http.Client, error) {
	if !strings.HasPrefix(address, "https://") {
		return client.NewHTTP(nil), nil
	}
	if e.global.cert == "" {
		return nil, pancake.Errorf(pancake.Unauthenticated,
			"%s asks for a certificate; get one with \"pancake ca issue user/<name> --role viewer --out <directory>\", and give it with --cert <directory>/identity.pem", address)
	}
	kept, err := e.credentials()
	if err != nil {
		return nil, err
	}
	source, err := e.source(kept)
	if err != nil {
		return nil, err
	}
	return client.NewHTTP(source.ClientTLS(identity.Expect{Kinds: []identity.Kind{kind}, Now: e.now})), nil
}

// trustedBeside is the CAs to know the scheduler by: those of --ca, else those in
// ca.pem beside the certificate, where "pancake ca issue" puts it, else those that
// login kept.
func (e *environment) trustedBeside(kept credentials) (identity.Bundle, error) {
	beside := filepath.Join(filepath.Dir(e.global.cert), "ca.pem")
	if _, err := os.Stat(beside); e.global.ca == "" && err == nil {
		text, err := readBounded(beside)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "cannot read %s: %w", beside, unwrapPath(err))
		}
		trusted, err := identity.ParseBundlePEM(text)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "%s: %w", beside, err)
		}
		return trusted, nil
	}
	trusted, _, err := e.trusted(kept)
	if err == nil && trusted == nil {
		err = pancake.Errorf(pancake.Invalid, "say how to know the scheduler, with --ca: there is no %s", beside)
	}
	return trusted, err
}
