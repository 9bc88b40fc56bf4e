package health

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/pancake-stack/pancake"
)

// maxCA bounds a file of certificates, in bytes.
const maxCA = 1 << 20

// tlsSettings say whether and how a connection is encrypted.
type tlsSettings struct {
	on, skipVerify bool
	ca, serverName string
}

func (t tlsSettings) isZero() bool { return t == tlsSettings{} }

func (r *reader) tls() tlsSettings {
	var out tlsSettings
	r.read(pancake.LabelHealthCheckTLSCA, func(value string) error {
		out.on, out.ca = true, value
		return nil
	})
	r.read(pancake.LabelHealthCheckTLSName, func(value string) error {
		out.on, out.serverName = true, value
		return nil
	})
	r.read(pancake.LabelHealthCheckTLS, func(value string) error {
		switch value {
		case "true", "skip-verify":
			out.on, out.skipVerify = true, value == "skip-verify"
		case "false":
			out = tlsSettings{}
		default:
			return fmt.Errorf("%q is none of true, skip-verify and false", clean(value, 40))
		}
		return nil
	})
	return out
}

// config makes what crypto/tls needs. The file is read each time, so that
// certificates can be replaced under a running Sidecar.
func (t tlsSettings) config() (*tls.Config, error) {
	out := &tls.Config{ServerName: t.serverName, InsecureSkipVerify: t.skipVerify, MinVersion: tls.VersionTLS12}
	if t.ca == "" {
		return out, nil
	}
	f, err := os.OpenFile(t.ca, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pancake.LabelHealthCheckTLSCA, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %s is not a file", pancake.LabelHealthCheckTLSCA, t.ca)
	}
	pem, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pancake.LabelHealthCheckTLSCA, err)
	}
	out.RootCAs = x509.NewCertPool()
	if !out.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate is in %s", pancake.LabelHealthCheckTLSCA, t.ca)
	}
	return out, nil
}
