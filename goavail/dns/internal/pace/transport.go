package pace

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// MaxAnswer is the most that is read of one answer, in bytes: ten times what a page of a list needs.
const MaxAnswer = 8 << 20

// Transport keeps the pace and reads no answer without end.
type Transport struct {
	Next http.RoundTripper
	Pace *Pace
}

// RoundTrip makes a request, or fails with a dns.Error when the pace does not allow it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.Pace.Wait(req.Context()); err != nil {
		return nil, err
	}
	resp, err := t.Next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: MaxAnswer}
	return resp, nil
}

// NotSent says that a call failed before a request could reach the provider.
func NotSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// bounded is a body that fails when it is longer than it may be.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", MaxAnswer)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
