package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pancake-stack/pancake"
)

const (
	answerLimit = 5 * time.Second // for the first answer of an endpoint
	keepAlive   = 5 * time.Second // how soon a dead connection is noticed
)

// Dial connects to an existing cluster, of which one endpoint must answer
// within 5 s and be version 3.4 or newer. It fails with Invalid, with Unavailable
// and, when the cluster refuses the access, with Unauthenticated.
func Dial(ctx context.Context, endpoints []string, access Access) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "no etcd endpoint is given; name at least one as host:port")
	}
	secure, err := access.tls(endpoints)
	if err != nil {
		return nil, err
	}
	password, err := access.password(endpoints, secure != nil)
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Context:              context.WithoutCancel(ctx), // ctx bounds the dialling, not the client's life
		Endpoints:            endpoints,
		TLS:                  secure,
		Username:             access.User,
		Password:             password,
		DialTimeout:          answerLimit,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAlive,
		Logger:               zap.NewNop(), // failures are returned by the calls
	})
	if err != nil {
		return nil, failure(endpoints, err)
	}
	version, err := version(ctx, c, endpoints)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		if reason := handshake(ctx, endpoints, secure); reason != nil {
			err = failure(endpoints, reason)
		}
	}
	if err == nil {
		err = checkVersion(version)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// version asks the endpoints in turn and returns the first answer.
func version(ctx context.Context, c *clientv3.Client, endpoints []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	type answer struct {
		version string
		err     error
	}
	answers := make(chan answer, len(endpoints))
	for _, e := range endpoints {
		go func() {
			s, err := c.Status(ctx, e)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			answers <- answer{version: s.Version}
		}()
	}
	var last error
	for range endpoints {
		a := <-answers
		if a.err == nil {
			return a.version, nil
		}
		last = a.err
	}
	return "", failure(endpoints, last)
}

// handshake looks for the reason why an endpoint cannot be used: etcd's client only
// knows that its time was up. It returns nil when all endpoints can be connected to.
func handshake(ctx context.Context, endpoints []string, secure *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for _, e := range endpoints {
		_, host, found := strings.Cut(e, "://")
		if !found {
			host = e
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		if err != nil {
			return err
		}
		if secure != nil {
			err = greet(ctx, conn, host, secure.Clone())
		}
		if err = errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
	return nil
}

// greet shakes hands over TLS. What the server thinks of our certificate comes after that.
func greet(ctx context.Context, conn net.Conn, host string, secure *tls.Config) error {
	if secure.ServerName == "" {
		secure.ServerName, _, _ = net.SplitHostPort(host)
	}
	secure.NextProtos = []string{"h2"}
	tlsConn := tls.Client(conn, secure)
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // a TCP connection knows deadlines
	_, err := tlsConn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil // it says nothing: all is well
	}
	return err
}

// failure says why a cluster cannot be used.
func failure(endpoints []string, err error) error {
	at := strings.Join(endpoints, ",")
	for _, refused := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken} {
		if errors.Is(err, refused) {
			return pancake.Errorf(pancake.Unauthenticated, "etcd at %s refuses us: %w; check the user, its password and its role", at, err)
		}
	}
	if errors.Is(err, rpctypes.ErrAuthNotEnabled) {
		return pancake.Errorf(pancake.Invalid, "etcd at %s has no users: leave user and password out, or enable authentication there", at)
	}
	return pancake.Errorf(pancake.Unavailable, "etcd at %s does not answer: %w", at, err)
}

// checkVersion refuses what is older than 3.4, the first with the lease
// behaviour that elections rely on.
func checkVersion(v string) error {
	major, rest, _ := strings.Cut(v, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	switch {
	case err1 != nil || err2 != nil:
		return pancake.Errorf(pancake.Invalid, "etcd says that its version is %q; 3.4 or newer is needed", v)
	case a < 3 || a == 3 && b < 4:
		return pancake.Errorf(pancake.Invalid, "etcd is version %s; 3.4 or newer is needed", v)
	}
	return nil
}
