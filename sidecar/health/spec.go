package health

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
)

// Spec says how a service is checked, as it was written: in labels, in a file or in a
// registration. In JSON it is one flat object: {"Type": "HttpGet", "Args": "…", "Interval": "5s"}.
type Spec struct {
	Type string // one of the types of checks; "" means Sidecar's default
	Args string // a template; what it means depends on Type
	// Options are the other settings. Their names are those of the labels
	// without HealthCheck in front, such as Interval or Header_Accept.
	Options map[string]string
}

// The limits of a Spec, far above what anybody writes.
const (
	maxOptions = 64
	maxOption  = 1 << 10 // bytes of one option
	maxHeaders = 32

	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	maxTimeout  = 10 * time.Minute
	maxCount    = 1000 // of Rise and Fall
)

// prefix begins the names of all labels of checks.
const prefix = pancake.LabelHealthCheck

// FromLabels picks what labels say about the check. Names that it does not know are kept:
// Unknown lists them.
func FromLabels(labels map[string]string) Spec {
	s := Spec{Type: labels[pancake.LabelHealthCheck], Args: labels[pancake.LabelHealthCheckArgs]}
	for name, value := range labels {
		option, ok := strings.CutPrefix(name, prefix)
		if !ok || option == "" || name == pancake.LabelHealthCheckArgs {
			continue
		}
		if s.Options == nil {
			s.Options = map[string]string{}
		}
		s.Options[option] = value
	}
	return s
}

// Told reports whether the status comes from elsewhere than a Checker: from Docker's
// health check or from heart beats.
func (s Spec) Told() bool { return s.Type == Docker || s.Type == TTL }

// Unknown lists the options that mean nothing, in order.
func (s Spec) Unknown() []string {
	var out []string
	for name := range s.Options {
		if !known(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func known(option string) bool {
	if strings.HasPrefix(prefix+option, pancake.LabelHealthCheckHeader) {
		return true
	}
	return slices.Contains([]string{
		pancake.LabelHealthCheckInterval, pancake.LabelHealthCheckTimeout, pancake.LabelHealthCheckRise, pancake.LabelHealthCheckFall,
		pancake.LabelHealthCheckMethod, pancake.LabelHealthCheckStatus, pancake.LabelHealthCheckBody, pancake.LabelHealthCheckBodyMatch,
		pancake.LabelHealthCheckRedirects, pancake.LabelHealthCheckTLS, pancake.LabelHealthCheckTLSCA, pancake.LabelHealthCheckTLSName,
		pancake.LabelHealthCheckShell,
	}, prefix+option)
}

// MarshalJSON writes the flat object.
func (s Spec) MarshalJSON() ([]byte, error) {
	flat := maps.Clone(s.Options)
	if flat == nil {
		flat = map[string]string{}
	}
	for name, value := range map[string]string{"Type": s.Type, "Args": s.Args} {
		if value != "" {
			flat[name] = value
		}
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads the flat object. Numbers and truth values are taken as they
// are written.
func (s *Spec) UnmarshalJSON(b []byte) error {
	var flat map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&flat); err != nil {
		return err
	}
	*s = Spec{}
	for name, value := range flat {
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		case bool:
			text = strconv.FormatBool(v)
		case nil:
			continue
		default:
			return pancake.Errorf(pancake.Invalid, "Check.%s is neither a text nor a number", name)
		}
		switch { // Sidecar takes these two in any case
		case strings.EqualFold(name, "Type"):
			s.Type = text
		case strings.EqualFold(name, "Args"):
			s.Args = text
		default:
			if s.Options == nil {
				s.Options = map[string]string{}
			}
			s.Options[name] = text
		}
	}
	return nil
}

// Validate says what is wrong with a Spec that was written for this Sidecar, where no
// other program's settings can be among it. The template is not looked at: it depends on
// the service.
func (s Spec) Validate() error {
	if s.Type != "" && !slices.Contains(types, s.Type) {
		return pancake.Errorf(pancake.Invalid, "check type %q does not exist; known are %s", s.Type, strings.Join(types, ", "))
	}
	if unknown := s.Unknown(); len(unknown) > 0 {
		return pancake.Errorf(pancake.Invalid, "Check.%s does not exist", unknown[0])
	}
	if len(s.Args) > maxArgs {
		return pancake.Errorf(pancake.Invalid, "Check.Args is longer than %d bytes", maxArgs)
	}
	_, err := s.settings(Config{}.withDefaults())
	return err
}

// settings are a Spec's options, read.
type settings struct {
	interval, timeout time.Duration
	rise, fall        int
	http              httpSettings
	tls               tlsSettings
	shell             bool
}

// reader reads options and keeps the first mistake.
type reader struct {
	options map[string]string
	err     error
}

// read hands over the value of an option that is set.
func (r *reader) read(label string, take func(value string) error) {
	value, ok := r.options[strings.TrimPrefix(label, prefix)]
	if !ok || value == "" || r.err != nil {
		return
	}
	if err := take(value); err != nil {
		r.err = pancake.Errorf(pancake.Invalid, "%s: %w", label, err)
	}
}

func (r *reader) duration(label string, to *time.Duration, low, high time.Duration) {
	r.read(label, func(value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < low || d > high {
			return fmt.Errorf("%q is not a duration between %s and %s", clean(value, 40), low, high)
		}
		*to = d
		return nil
	})
}

func (r *reader) count(label string, to *int) {
	r.read(label, func(value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxCount {
			return fmt.Errorf("%q is not a number between 1 and %d", clean(value, 40), maxCount)
		}
		*to = n
		return nil
	})
}

// settings reads the options. Those that a Config sets too count more.
func (s Spec) settings(cfg Config) (settings, error) {
	if len(s.Options) > maxOptions {
		return settings{}, pancake.Errorf(pancake.Invalid, "%d settings for a check; %d are allowed", len(s.Options), maxOptions)
	}
	for name, value := range s.Options {
		if len(name)+len(value) > maxOption {
			return settings{}, pancake.Errorf(pancake.Invalid, "%s%s is longer than %d bytes", prefix, clean(name, 40), maxOption)
		}
	}
	out := settings{interval: cfg.Interval, rise: cfg.Rise, fall: cfg.Fall}
	r := &reader{options: s.Options}
	r.duration(pancake.LabelHealthCheckInterval, &out.interval, minInterval, maxInterval)
	out.timeout = min(cfg.Timeout, out.interval)
	r.duration(pancake.LabelHealthCheckTimeout, &out.timeout, time.Millisecond, maxTimeout)
	r.count(pancake.LabelHealthCheckRise, &out.rise)
	r.count(pancake.LabelHealthCheckFall, &out.fall)
	r.read(pancake.LabelHealthCheckShell, func(value string) (err error) {
		out.shell, err = yes(value)
		return err
	})
	out.http = r.http()
	out.tls = r.tls()
	return out, r.err
}

func yes(value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", clean(value, 40))
}

// httpSettings are what HttpGet asks and what it accepts.
type httpSettings struct {
	method    string
	headers   http.Header
	statuses  [][2]int // ranges, both ends included
	body      string
	match     *regexp.Regexp
	redirects string
}

// What is done with redirects.
const (
	redirectSame = "same-host" // follow those to the host that was asked; the default
	redirectAll  = "all"
	redirectNone = "none" // the answer is the redirect
)

func (r *reader) http() httpSettings {
	out := httpSettings{method: http.MethodGet, headers: http.Header{}, statuses: [][2]int{{200, 299}}, redirects: redirectSame}
	r.read(pancake.LabelHealthCheckMethod, func(value string) error {
		if len(value) > 20 || strings.ContainsFunc(value, func(c rune) bool { return c < 'A' || c > 'Z' }) {
			return fmt.Errorf("%q is not a method such as GET, HEAD or POST", clean(value, 40))
		}
		out.method = value
		return nil
	})
	r.read(pancake.LabelHealthCheckStatus, func(value string) (err error) {
		out.statuses, err = statuses(value)
		if slices.ContainsFunc(out.statuses, func(s [2]int) bool { return s[0] < 400 && s[1] >= 300 }) {
			out.redirects = redirectNone // or nobody would ever see one
		}
		return err
	})
	r.read(pancake.LabelHealthCheckBody, func(value string) error {
		out.body = value
		return nil
	})
	r.read(pancake.LabelHealthCheckBodyMatch, func(value string) (err error) {
		out.match, err = regexp.Compile(value)
		return err
	})
	r.read(pancake.LabelHealthCheckRedirects, func(value string) error {
		out.redirects = value
		if !slices.Contains([]string{redirectSame, redirectAll, redirectNone}, value) {
			return fmt.Errorf("%q is none of %s, %s and %s", clean(value, 40), redirectSame, redirectAll, redirectNone)
		}
		return nil
	})
	for _, option := range slices.Sorted(maps.Keys(r.options)) {
		if name, ok := strings.CutPrefix(prefix+option, pancake.LabelHealthCheckHeader); ok {
			r.read(prefix+option, func(value string) error {
				if !validHeader(name, value) || len(out.headers) >= maxHeaders {
					return fmt.Errorf("not a header that can be sent, or more than %d", maxHeaders)
				}
				out.headers.Set(name, value)
				return nil
			})
		}
	}
	return out
}

// validHeader reports whether a header can be sent: its name is a token of RFC 9110
// and its value has no control characters.
func validHeader(name, value string) bool {
	token := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	}
	return name != "" && strings.IndexFunc(name, func(c rune) bool { return !token(c) }) < 0 &&
		strings.IndexFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) < 0
}

// statuses reads a list of numbers and ranges, such as 200-299,401.
func statuses(list string) ([][2]int, error) {
	var out [][2]int
	for part := range strings.SplitSeq(list, ",") {
		from, to, ranged := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.Atoi(strings.TrimSpace(from))
		high := low
		if err == nil && ranged {
			high, err = strconv.Atoi(strings.TrimSpace(to))
		}
		if err != nil || low < 100 || high > 599 || low > high {
			return nil, fmt.Errorf("%q is not a status or a range of them, such as 200-299,401", clean(part, 40))
		}
		out = append(out, [2]int{low, high})
	}
	return out, nil
}

func (h *httpSettings) accepts(status int) bool {
	return slices.ContainsFunc(h.statuses, func(s [2]int) bool { return status >= s[0] && status <= s[1] })
}
