package cloud

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody is the most that is read of a request, in bytes.
const maxBody = 8 << 20

// API is one cloud: its handler and how it says no.
type API interface {
	http.Handler
	// Fail writes the cloud's error body for a status, with a code of the cloud's if not "".
	Fail(w http.ResponseWriter, status int, code string)
	// State is everything that the cloud holds, as JSON.
	State() any
	// Add adds to the state what a POST to state said.
	Add(body []byte) error
	// Configure is called with the Config's changes.
	Configure(Config)
}

// Server puts the control endpoints, the log and the faults around a cloud's API.
type Server struct {
	api API

	mu      sync.Mutex
	config  Config
	log     []Request
	faults  []Fault
	window  []time.Time // the requests of the window, oldest first
	blocked time.Time
}

// NewServer wraps an API.
func NewServer(api API) *Server { return &Server{api: api} }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/_control/"); ok {
		s.control(w, r.Method+" "+name, body)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	line := Request{At: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Body: string(body)}
	fault, hit := s.fault(r)
	if hit {
		line.Fault = fault.Kind
	}
	line.Status = s.serve(w, r, fault)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
}

// serve answers a request, with a fault if its kind is not "", and returns the status that was sent.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, fault Fault) int {
	switch fault.Kind {
	case Latency:
		select {
		case <-time.After(millis(fault.Millis)):
		case <-r.Context().Done():
			return 0
		}
	case TimeoutAfter, ResetAfter, StatusAfter:
		s.api.ServeHTTP(httptest.NewRecorder(), r)
	}
	switch fault.Kind {
	case TimeoutBefore, TimeoutAfter:
		<-r.Context().Done() // the client gives up, or the fake ends
		return 0
	case ResetBefore, ResetAfter:
		reset(w)
		return 0
	case Status, StatusAfter:
		if fault.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(fault.RetryAfter))
		}
		s.api.Fail(w, fault.Status, fault.Code)
		return fault.Status
	case Garbage:
		_, _ = io.Copy(w, io.LimitReader(zeros{}, int64(fault.Millis)<<10))
		return http.StatusOK
	}
	if !s.allow(w) {
		s.api.Fail(w, http.StatusTooManyRequests, "")
		return http.StatusTooManyRequests
	}
	counted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	s.api.ServeHTTP(counted, r)
	return counted.status
}

// allow counts a request against the limit, and sets the headers that say how much is left.
func (s *Server) allow(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config.Requests == 0 {
		return true
	}
	now, window := time.Now(), millis(cmp.Or(s.config.Window, 300_000))
	refuse := func() bool {
		w.Header().Set("Retry-After", strconv.Itoa(int((s.blocked.Sub(now)+time.Second-1)/time.Second)))
		return false
	}
	if now.Before(s.blocked) {
		return refuse()
	}
	s.window = slices.DeleteFunc(s.window, func(at time.Time) bool { return now.Sub(at) >= window })
	if len(s.window) >= s.config.Requests {
		s.blocked = now.Add(cmp.Or(millis(s.config.Penalty), window))
		return refuse()
	}
	s.window = append(s.window, now)
	left := s.config.Requests - len(s.window)
	reset := int((s.window[0].Add(window).Sub(now) + time.Second - 1) / time.Second)
	w.Header().Set("Ratelimit", `"default";r=`+strconv.Itoa(left)+`;t=`+strconv.Itoa(reset))
	w.Header().Set("Ratelimit-Policy", `"default";q=`+strconv.Itoa(s.config.Requests)+`;w=`+strconv.Itoa(int(window/time.Second)))
	return true
}

// fault finds the first fault for a request and counts it.
func (s *Server) fault(r *http.Request) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.faults, func(f Fault) bool {
		method := f.Method == "" || f.Method == r.Method || f.Method == "write" && r.Method != http.MethodGet
		return method && strings.Contains(r.URL.Path, f.Path)
	})
	if i < 0 {
		return Fault{}, false
	}
	f := s.faults[i]
	if f.Count == 1 {
		s.faults = slices.Delete(s.faults, i, i+1)
	} else if f.Count > 1 {
		s.faults[i].Count--
	}
	return f, true
}

func (s *Server) control(w http.ResponseWriter, call string, body []byte) {
	var err error
	var out any
	s.mu.Lock()
	defer s.mu.Unlock()
	switch call {
	case "GET log":
		out = slices.Clone(s.log)
	case "DELETE log":
		s.log = nil
	case "POST faults":
		var f Fault
		if err = json.Unmarshal(body, &f); err == nil {
			s.faults = append(s.faults, f)
		}
	case "DELETE faults":
		s.faults = nil
	case "POST config":
		var c Config
		if err = json.Unmarshal(body, &c); err == nil {
			s.config, s.window, s.blocked = c, nil, time.Time{}
			s.api.Configure(c)
		}
	case "GET state":
		out = s.api.State()
	case "POST state":
		err = s.api.Add(body)
	default:
		http.NotFound(w, nil)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// reset closes the connection so that the client sees no answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
