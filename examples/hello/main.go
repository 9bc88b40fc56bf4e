// Hello is the example service: small enough to read in a minute, with the
// manners that a deploy without a failed request needs. It says when it is
// healthy, and on SIGTERM it finishes what it has begun.
//
// Environment:
//
//	PORT         port to listen on (8080)
//	GREETING     the first word of the answer (Hello)
//	INSTANCE_NO  which instance of the service this is; set by Pancake
//	TASK_ID      the task's id; set by Pancake
//	EXIT_AFTER   a duration such as 5s: fail with exit code 1 after it
//	UNHEALTHY    any value: answer /healthz with 500
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set by the linker.
var version = "dev"

// Limits of the service.
const (
	// maxWait is the longest pause that a caller may ask for with ?wait=.
	maxWait = 10 * time.Second
	// grace is how long requests may take to finish after SIGTERM: longer than
	// any of them is allowed to wait.
	grace = maxWait + 2*time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, then finishes the requests in flight.
// It returns an error when it cannot listen or EXIT_AFTER has passed.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	errExitAfter := errors.New("EXIT_AFTER has passed")
	if text := getenv("EXIT_AFTER"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("EXIT_AFTER: %w", err)
		}
		defer time.AfterFunc(d, func() { fail(errExitAfter) }).Stop()
	}

	// Every interface: a container's port is reached from outside of it.
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("", cmp.Or(getenv("PORT"), "8080")))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler(getenv, stdout), ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(stdout, "hello version %s listens on %s\n", version, lis.Addr())

	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), errExitAfter) {
		return errExitAfter
	}
	fmt.Fprintln(stdout, "hello stops: finishing the requests in flight")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return srv.Shutdown(drain)
}

// handler answers / with a line that says which version and instance this is,
// and /healthz.
func handler(getenv func(string) string, log io.Writer) http.Handler {
	host, _ := os.Hostname() // an empty name is only a shorter greeting
	greeting := cmp.Or(getenv("GREETING"), "Hello")
	instance, task := cmp.Or(getenv("INSTANCE_NO"), "1"), cmp.Or(getenv("TASK_ID"), "none")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if getenv("UNHEALTHY") != "" {
			http.Error(w, "unhealthy, because UNHEALTHY is set", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(log, "%s %s from %s\n", r.Method, r.URL.Path, r.RemoteAddr)
		wait, _ := time.ParseDuration(r.FormValue("wait")) // none when it does not parse
		select {
		case <-r.Context().Done():
			return
		case <-time.After(min(wait, maxWait)):
		}
		fmt.Fprintf(w, "%s from version %s, instance %s on %s (task %s)\n", greeting, version, instance, host, task)
	})
	return mux
}
