package health_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// picky is a server that shows what it was asked, with a status from the path.
func picky(t *testing.T) (plain, encrypted *httptest.Server, ca string) {
	t.Helper()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/200", http.StatusFound)
			return
		case "/far":
			http.Redirect(w, r, "http://"+strings.Replace(r.Host, "127.0.0.1", "localhost", 1)+"/200", http.StatusFound)
			return
		}
		status := 200
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
		fmt.Fprintf(w, "%s host=%s token=%s agent=%s\nstate: ready", r.Method, r.Host, r.Header.Get("X-Token"), r.UserAgent())
	})
	plain, encrypted = httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(encrypted.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return plain, encrypted, ca
}

func TestOptionsOfHTTP(t *testing.T) {
	plain, encrypted, ca := picky(t)
	type options = map[string]string
	for name, tt := range map[string]struct {
		url     string
		options options
		note    string // "" if it passes
	}{
		"a status that is allowed":       {plain.URL + "/401", options{"Status": "200-299,401"}, ""},
		"one that is not":                {plain.URL + "/201", options{"Status": "200"}, "201 Created"},
		"a redirect that is wanted":      {plain.URL + "/moved", options{"Status": "302"}, ""},
		"no redirects":                   {plain.URL + "/moved", options{"Redirects": "none"}, "302 Found"},
		"not to another host":            {plain.URL + "/far", nil, "302 Found"},
		"all redirects":                  {plain.URL + "/far", options{"Redirects": "all"}, ""},
		"a text in the body":             {plain.URL + "/", options{"Body": "state: ready"}, ""},
		"a text that is not there":       {plain.URL + "/", options{"Body": "state: gone"}, `the body has no "state: gone" (HealthCheckBody): GET host=`},
		"an expression":                  {plain.URL + "/", options{"BodyMatch": `state: (up|ready)$`}, ""},
		"an expression that fails":       {plain.URL + "/", options{"BodyMatch": `^ready`}, "(HealthCheckBodyMatch)"},
		"method and headers":             {plain.URL + "/", options{"Method": "POST", "Header_X-Token": "secret", "Header_Host": "web.example", "Body": "POST host=web.example token=secret agent=pancake-sidecar"}, ""},
		"another agent":                  {plain.URL + "/", options{"Header_User-Agent": "me", "Body": "agent=me"}, ""},
		"no certificate that is trusted": {encrypted.URL + "/", options{}, "certificate"},
		"not verified":                   {encrypted.URL + "/", options{"TLS": "skip-verify"}, ""},
		"an authority":                   {encrypted.URL + "/", options{"TLSCA": ca}, ""},
		"an authority and a name":        {encrypted.URL + "/", options{"TLSCA": ca, "TLSServerName": "example.com"}, ""},
		"another name":                   {encrypted.URL + "/", options{"TLSCA": ca, "TLSServerName": "example.org"}, "not example.org"},
		"no such authority":              {encrypted.URL + "/", options{"TLSCA": "/no/such/file"}, "no such file"},
		"by default, encrypted":          {"", options{"TLS": "skip-verify"}, ""},
		"a bad interval":                 {plain.URL + "/", options{"Interval": "5"}, `HealthCheckInterval: "5" is not a duration between 100ms and 1h0m0s`},
		"a bad timeout":                  {plain.URL + "/", options{"Timeout": "-1s"}, "HealthCheckTimeout"},
		"a bad rise":                     {plain.URL + "/", options{"Rise": "0"}, `HealthCheckRise: "0" is not a number between 1 and`},
		"a bad fall":                     {plain.URL + "/", options{"Fall": "many"}, "HealthCheckFall"},
		"a bad status":                   {plain.URL + "/", options{"Status": "299-200"}, "HealthCheckStatus"},
		"a bad method":                   {plain.URL + "/", options{"Method": "GET /"}, "HealthCheckMethod"},
		"a bad expression":               {plain.URL + "/", options{"BodyMatch": "("}, "missing closing )"},
		"a bad header":                   {plain.URL + "/", options{"Header_X": "a\r\nb"}, "HealthCheckHeader_X"},
		"a bad header's name":            {plain.URL + "/", options{"Header_": "a"}, "not a header"},
		"bad redirects":                  {plain.URL + "/", options{"Redirects": "some"}, "HealthCheckRedirects"},
		"bad TLS":                        {plain.URL + "/", options{"TLS": "maybe"}, "HealthCheckTLS"},
		"too long":                       {plain.URL + "/", options{"Body": strings.Repeat("x", 2000)}, "longer than"},
		"unknown":                        {plain.URL + "/", options{"Intervall": "1s"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			target := health.Target{Service: service(t, encrypted.Listener.Addr().String()), Spec: health.Spec{Type: "HttpGet", Args: tt.url, Options: tt.options}}
			got := first(t, health.Config{}, target)
			if passed := got.Status == pancake.Alive; passed != (tt.note == "") || !strings.Contains(got.Note, tt.note) {
				t.Errorf("%+v, want %q", got, tt.note)
			}
		})
	}
}

// answers is a gRPC server with grpc.health.v1.
func answers(t *testing.T, options ...grpc.ServerOption) (addr string, state *grpchealth.Server) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.21.9.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	state = grpchealth.NewServer()
	healthpb.RegisterHealthServer(s, state)
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return ln.Addr().String(), state
}

func TestGRPC(t *testing.T) {
	_, encrypted, ca := picky(t)
	addr, state := answers(t)
	secure, _ := answers(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: encrypted.TLS.Certificates})))
	state.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
	state.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	bare, err := net.Listen("tcp", "127.21.9.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	go s.Serve(bare)
	t.Cleanup(s.Stop)
	silent, err := net.Listen("tcp", "127.21.9.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for name, tt := range map[string]struct {
		args    string
		options map[string]string
		note    string
	}{
		"the server":     {addr, nil, ""},
		"a service":      {addr + "/good", nil, ""},
		"by default":     {"", nil, ""},
		"not serving":    {addr + "/bad", nil, `service "bad" is NOT_SERVING`},
		"unknown":        {addr + "/other", nil, `does not know the service "other"`},
		"no such thing":  {bare.Addr().String(), nil, "does not offer grpc.health.v1"},
		"nobody":         {"127.21.9.1:1", nil, "connection refused"},
		"silent":         {silent.Addr().String(), nil, "no answer in time"},
		"encrypted":      {secure, map[string]string{"TLSCA": ca, "TLSServerName": "example.com"}, ""},
		"not verified":   {secure, map[string]string{"TLS": "skip-verify"}, ""},
		"not trusted":    {secure, map[string]string{"TLS": "true"}, "certificate"},
		"not encrypted":  {secure, nil, "grpc " + secure},
		"no such file":   {secure, map[string]string{"TLSCA": "/no/such/file"}, "no such file"},
		"not an address": {"a b", nil, "grpc a b"},
	} {
		t.Run(name, func(t *testing.T) {
			target := health.Target{Service: service(t, addr), Spec: health.Spec{Type: "Grpc", Args: tt.args, Options: tt.options}}
			got := first(t, health.Config{Interval: time.Second}, target)
			if passed := got.Status == pancake.Alive; passed != (tt.note == "") || !strings.Contains(got.Note, tt.note) {
				t.Errorf("%+v, want %q", got, tt.note)
			}
		})
	}
}

func TestSpecs(t *testing.T) {
	labels := map[string]string{
		"HealthCheck": "HttpGet", "HealthCheckArgs": "http://x/", "HealthCheckInterval": "5s", "HealthCheckHeader_Accept": "text/html",
		"HealthCheckNonsense": "1", "ServiceName": "x",
	}
	spec := health.FromLabels(labels)
	want := health.Spec{Type: "HttpGet", Args: "http://x/", Options: map[string]string{"Interval": "5s", "Header_Accept": "text/html", "Nonsense": "1"}}
	if !reflect.DeepEqual(spec, want) || fmt.Sprint(spec.Unknown()) != "[Nonsense]" {
		t.Errorf("%+v", spec)
	}
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var again health.Spec
	if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%s: %+v, %v", b, again, err)
	}
	if err := spec.Validate(); err == nil || err.Error() != "Check.Nonsense does not exist" {
		t.Errorf("%v", err)
	}
	if got := health.FromLabels(nil); !reflect.DeepEqual(got, health.Spec{}) || got.Validate() != nil {
		t.Errorf("%+v", got)
	}
}

func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"Type":"HttpGet","Args":"{{ host }}","Interval":"1s","Status":"200-299,401","Header_A":"b","Rise":3,"TLS":true,"BodyMatch":"a+"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s health.Spec
		if json.Unmarshal(b, &s) != nil || s.Validate() != nil {
			return
		}
		text, err := json.Marshal(s)
		var again health.Spec
		if err != nil || json.Unmarshal(text, &again) != nil || again.Validate() != nil {
			t.Fatalf("%s became %s, %v", b, text, err)
		}
	})
}
