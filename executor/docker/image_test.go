package docker_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/executor/docker"
)

// registry answers as a registry that knows no image.
func registry(t *testing.T, status int, body string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0") // the engine allows plain HTTP there
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	})}
	go srv.Serve(lis)
	t.Cleanup(func() { srv.Close() })
	return lis.Addr().String()
}

func TestPullErrors(t *testing.T) {
	k := newKit(t)
	for name, tt := range map[string]struct {
		image string
		kind  pancake.Kind
		words string
	}{
		"unknown":        {registry(t, 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag here"}]}`) + "/a/b:1", pancake.NotFound, "manifest"},
		"denied":         {registry(t, 403, `{"errors":[{"code":"DENIED","message":"not for you"}]}`) + "/a/b:1", pancake.NotFound, "denied"},
		"broken":         {registry(t, 500, "out of order") + "/a/b:1", pancake.Failed, "500 Internal Server Error"},
		"nobody answers": {"127.0.0.1:1/a/b:1", pancake.Failed, "connection refused"},
		"bad name":       {"a b", pancake.Invalid, "invalid reference format"},
	} {
		err := k.engine.Pull(t.Context(), tt.image)
		if pancake.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.image) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %s error %v, want %s with %q", name, pancake.KindOf(err), err, tt.kind, tt.words)
		}
	}
}

// A registry's credentials reach the engine, and with it the registry.
func TestCredentials(t *testing.T) {
	got := make(chan string, 8)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); ok {
			select {
			case got <- user + ":" + password:
			default:
			}
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	})}
	go srv.Serve(lis)
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "config.json")
	login := fmt.Sprintf(`{"auths":{"%s":{"auth":"YW5uOnNlY3JldA=="}}}`, lis.Addr()) // ann:secret
	if err := os.WriteFile(file, []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := docker.New(docker.Config{CredentialsFile: file})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Pull(t.Context(), lis.Addr().String()+"/a/b:1"); err == nil {
		t.Error("pulled an image that does not exist")
	}
	select {
	case who := <-got:
		if who != "ann:secret" {
			t.Errorf("the registry saw %s", who)
		}
	default:
		t.Error("the registry saw no credentials")
	}
	if err := os.WriteFile(file, []byte(`{"auths":{"`+lis.Addr().String()+`":{"auth":"!secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Pull(t.Context(), lis.Addr().String()+"/a/b:1"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("damaged credentials: %v", err)
	}
}
