// Package cloud is what the servers that stand in for clouds share: a log of the
// requests that tests read as evidence, faults to inject, answers that lag behind
// writes, a DNS server for the zones, and the client of all that.
//
// A fake is a process of its own. Beside the cloud's API it serves, under /_control/:
//
//	GET    log     the requests since the start or the last DELETE, oldest first
//	DELETE log     forget them
//	POST   faults  a Fault, that is added
//	DELETE faults  forget all faults
//	POST   config  a Config, that replaces the one before
//	GET    state   all that the fake holds
//	POST   state   adds to it, as if somebody else had done so; see each fake
package cloud

import "time"

// Config is what a test may change while the fake runs.
type Config struct {
	// ListLag is how far lists are behind writes, in milliseconds. Default 0.
	ListLag int `json:"list_lag"`
	// DNSLag is how far the zones' DNS answers are behind writes, in milliseconds. Default 0.
	DNSLag int `json:"dns_lag"`
	// Requests is how many requests are served per Window before the fake says
	// that it is too much. 0 means no limit.
	Requests int `json:"requests"`
	// Window of Requests, in milliseconds. Default 5 minutes, as at Cloudflare.
	Window int `json:"window"`
	// Penalty is how long everything is refused after too many requests, in
	// milliseconds. Default Window.
	Penalty int `json:"penalty"`
}

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// The kinds of faults.
const (
	Status        = "status"         // answer with Fault.Status, without doing anything
	StatusAfter   = "status_after"   // do it, and answer with Fault.Status
	TimeoutBefore = "timeout_before" // neither do it nor answer
	TimeoutAfter  = "timeout_after"  // do it, but do not answer
	ResetBefore   = "reset_before"   // reset the connection without doing anything
	ResetAfter    = "reset_after"    // do it and reset the connection
	Latency       = "latency"        // wait for Fault.Millis, then go on
	Garbage       = "garbage"        // answer 200 with Fault.Millis KiB that are no answer
)

// Fault is one thing that goes wrong with requests.
type Fault struct {
	Kind   string `json:"kind"`
	Method string `json:"method,omitempty"` // only requests with this method; "write" is all but GET
	Path   string `json:"path,omitempty"`   // only requests whose path contains this
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`   // the error code in the body, if the cloud has some for the status
	Count  int    `json:"count,omitempty"`  // for so many requests; 0 is until it is deleted
	Millis int    `json:"millis,omitempty"` // of Latency
	// RetryAfter is sent along with a 429, in seconds.
	RetryAfter int `json:"retry_after,omitempty"`
}

// Request is one line of the log.
type Request struct {
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Query  string    `json:"query,omitempty"`
	Body   string    `json:"body,omitempty"`
	Status int       `json:"status"` // 0 when no answer was sent
	Fault  string    `json:"fault,omitempty"`
}

// Write reports whether the request wanted to change something.
func (r Request) Write() bool { return r.Method != "GET" }
