package file

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/serve"
)

// File is one configuration that was read.
type File struct {
	Name     string
	Settings Settings
	// Warnings say what may not be as meant. They do not stand in the way.
	Warnings []string

	*report
	getenv func(string) string
}

// Load reads a file. One that ends in .toml is taken for the old goavail's. It fails with
// Invalid, and says all that is wrong at once.
func Load(name string, flags OldFlags, getenv func(string) string) (*File, error) {
	text, err := read(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pancake.Errorf(pancake.Invalid, "there is no file %s; name the configuration with -f", name)
	}
	if err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "configuration: %w", err)
	}
	return Parse(name, text, flags, getenv)
}

// Parse is Load for a text that was read already.
func Parse(name string, text []byte, flags OldFlags, getenv func(string) string) (*File, error) {
	f := &File{Name: name, getenv: getenv}
	if strings.EqualFold(filepath.Ext(name), ".toml") {
		var err error
		f.report = &report{name: name, places: map[string]place{}}
		if f.Settings, f.Warnings, err = Convert(name, text, flags); err != nil {
			return nil, err
		}
	} else {
		f.Settings, f.report = parseYAML(name, text)
	}
	f.check()
	if err := f.err(); err != nil {
		return nil, err
	}
	return f, nil
}

// read reads a file of at most so many bytes.
func read(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() // it was only read
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes; is it the right file?", name, most)
	}
	return text, err
}

// Print writes settings as a file that Load reads.
func Print(w io.Writer, s Settings) error {
	text, err := yaml.Dump(s)
	if err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 64 << 10

// secret reads a file that holds a secret and nothing else.
func (f *File) secret(path, name string) string {
	if name == "" {
		return ""
	}
	info, err := os.Stat(name)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%s: %s can be read by others on this machine; chmod 600 it", path, name))
	}
	text, err := read(name, maxSecret)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.fail(path, "there is no file %s", name)
	case err != nil:
		f.fail(path, "%w", err)
	case strings.TrimSpace(string(text)) == "":
		f.fail(path, "%s is empty", name)
	}
	return strings.TrimSpace(string(text))
}

// hookSecret is what a hook's file or variable holds.
func (f *File) hookSecret(path string, h Hook) string {
	if h.File != "" {
		return f.secret(path+".secret_file", h.File)
	}
	if h.Env == "" {
		return ""
	}
	text := strings.TrimSpace(f.getenv(h.Env))
	if text == "" {
		f.fail(path+".secret_env", "the variable %s is not set", h.Env)
	}
	return text
}

// DataDir is where the agent keeps its state.
func (f *File) DataDir() string { return cmp.Or(f.Settings.DataDir, ".pancake/goavail") }

// Print writes the settings as they are understood. A webhook's address may be a secret,
// and is masked.
func (f *File) Print(w io.Writer) error {
	s := f.Settings
	for _, h := range []*Hook{&s.Notify.Webhook, &s.Notify.PagerDuty} {
		if h.URL != "" {
			h.URL = "********"
		}
	}
	return Print(w, s)
}

// Advice are the warnings, and what is allowed but seldom wise.
func (f *File) Advice() []string {
	s, out := f.Settings, slices.Clone(f.Warnings)
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch n := len(s.Places); {
	case n < 2:
		add("there is only one place: what it cannot reach counts as down; three or more places tell a dead target from a broken line")
	case n%2 == 0:
		add("%d places: an odd number stands more; with this one both halves of a split stop", n)
	}
	if len(s.Canaries) == 0 {
		add("there are no canaries: a place that has lost its own connection will say that everything is down")
	}
	for i, p := range s.Places {
		if p.Region == "" && p.Provider == "" && len(s.Places) > 1 {
			add("places[%d]: %s has neither region nor provider, so that nobody sees whether two places are one", i, p.Name)
		}
	}
	if s.API.PlainHTTP && !serve.Loopback(s.API.Listen) {
		add("api.plain_http: the token travels as it is; nobody but the proxy in front must be on the network of %s", s.API.Listen)
	}
	for i, r := range s.Records {
		if r.TTL > Duration(5*time.Minute) && !r.Proxied {
			add("records[%d]: %s has a TTL of %s: for so long resolvers go on answering with what is dead", i, r.Name, time.Duration(r.TTL))
		}
	}
	return out
}
