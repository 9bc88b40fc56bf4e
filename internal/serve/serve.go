// Package serve runs HTTP servers the way every Pancake daemon does: bounded
// headers, bodies and idle times, JSON in and out, failures by kind, and a
// graceful end.
package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/pancake-stack/pancake"
)

// MaxBody is the largest request body that ReadJSON takes, in bytes.
const MaxBody = 4 << 20

// Listen opens a TCP listener and says in plain words why it cannot.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, pancake.Errorf(pancake.Conflict, "cannot listen on %s: another program already does; stop it or choose another address: %w", addr, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, pancake.Errorf(pancake.Invalid, "cannot listen on %s: it is no address of this machine; choose one that is: %w", addr, err)
	case errors.Is(err, syscall.EACCES):
		return nil, pancake.Errorf(pancake.Invalid, "cannot listen on %s: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE: %w", addr, err)
	}
	return nil, pancake.Errorf(pancake.Invalid, "cannot listen on %s: %w", addr, err)
}

// Loopback reports whether addr, a host with or without a port, can be reached from
// this machine only.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Run serves on ln until ctx ends, then lets requests finish for up to 5 s.
// Handlers see ctx's end through their request's context, so streams end at once.
func Run(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	cancel()
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	err := srv.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	if ended := <-done; err == nil && !errors.Is(ended, http.ErrServerClosed) {
		err = ended
	}
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", ln.Addr(), err)
	}
	return ctx.Err()
}

// Handler turns a function that may fail into an http.Handler that answers
// failures with Error.
func Handler(fn func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := fn(w, r); err != nil {
			Error(w, r, err)
		}
	})
}

// JSON answers with v.
func JSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return Send(w, append(b, '\n'))
}

// patience is how long a client may take to send a body, or to read an answer
// that is no stream: one that stops half way must not hold it for ever.
const patience = 30 * time.Second

// Send writes a whole answer.
func Send(w http.ResponseWriter, b []byte) error {
	// A writer that knows no deadlines has no slow client behind it. The server
	// takes the deadline off again after the request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(patience))
	_, err := w.Write(b)
	return IgnoreGone(err)
}

// IgnoreGone drops the error of a client that went away while it was answered,
// or does not read: there is nobody to tell.
func IgnoreGone(err error) error {
	for _, gone := range []error{syscall.EPIPE, syscall.ECONNRESET, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// errorBody is scheduler/client's ErrorBody.
type errorBody struct {
	Kind    pancake.Kind `json:"kind"`
	Message string       `json:"message"`
}

// slowDown is an error of clients that have made too many calls.
type slowDown interface {
	error
	// RetryAfter is how long they have to wait.
	RetryAfter() time.Duration
}

// Error answers with err's kind and text, and with 429 and Retry-After if err has
// a method RetryAfter.
func Error(w http.ResponseWriter, _ *http.Request, err error) {
	status := Status(pancake.KindOf(err))
	if errors.Is(err, context.Canceled) { // the server ends; or the client is gone, and it does not matter
		status = http.StatusServiceUnavailable
	}
	if slow, ok := errors.AsType[slowDown](err); ok {
		status = http.StatusTooManyRequests
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(slow.RetryAfter().Seconds()))))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(errorBody{pancake.KindOf(err), err.Error()}) // a client that left cannot be told
}

// Status is the HTTP status for a kind of failure.
func Status(kind pancake.Kind) int {
	switch kind {
	case pancake.Invalid:
		return http.StatusBadRequest
	case pancake.NotFound:
		return http.StatusNotFound
	case pancake.Conflict, pancake.NoRoom:
		return http.StatusConflict
	case pancake.Unavailable:
		return http.StatusServiceUnavailable
	case pancake.Failed:
		return http.StatusUnprocessableEntity
	case pancake.Unauthenticated:
		return http.StatusUnauthorized
	case pancake.Forbidden:
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

// ReadJSON decodes one JSON document of at most limit bytes (0 means MaxBody)
// into v. Unknown fields and anything behind the document are refused.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	if limit == 0 {
		limit = MaxBody
	}
	body := http.NewResponseController(w)
	_ = body.SetReadDeadline(time.Now().Add(patience))
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return pancake.Errorf(pancake.Invalid, "the body is larger than %d bytes", tooLarge.Limit)
		}
		return pancake.Errorf(pancake.Invalid, "the body is not the JSON that is expected here: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return pancake.Errorf(pancake.Invalid, "something follows the JSON document in the body")
	}
	// Taken off again: the server goes on reading, to see whether the client is there. Behind
	// a failure it stays, since the server reads the rest before it answers.
	_ = body.SetReadDeadline(time.Time{})
	return nil
}
