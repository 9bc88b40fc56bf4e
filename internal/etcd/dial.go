package etcd

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/pancake-stack/pancake"
)

const (
	answerLimit = 5 * time.Second // for the first answer of an endpoint
	keepAlive   = 5 * time.Second // how soon a dead connection is noticed
)

// Dial connects to an existing cluster, of which one endpoint must answer
// within 5 s and be version 3.4 or newer. It fails with Invalid or Unavailable.
func Dial(ctx context.Context, endpoints []string) (*clientv3.Client, error) {
	if len(endpoints) == 0 {
		return nil, pancake.Errorf(pancake.Invalid, "no etcd endpoint is given; name at least one as host:port")
	}
	c, err := clientv3.New(clientv3.Config{
		Context:              context.WithoutCancel(ctx), // ctx bounds the dialling, not the client's life
		Endpoints:            endpoints,
		DialTimeout:          answerLimit,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAlive,
		Logger:               zap.NewNop(), // failures are returned by the calls
	})
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "etcd at %s: %w", strings.Join(endpoints, ","), err)
	}
	version, err := version(ctx, c, endpoints)
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
	return "", pancake.Errorf(pancake.Unavailable, "etcd at %s does not answer: %w", strings.Join(endpoints, ","), last)
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
