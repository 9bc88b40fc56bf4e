package discover

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/pancake-stack/pancake"
)

// lineError is a mistake in a line of a file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// piece is one element of the list in a file, as JSON, and where it begins.
type piece struct {
	line int
	text []byte
}

// ParseStatic reads a file of services: JSON if it begins with a bracket, else YAML. Each gets an
// ID, made from its name and ports unless it has one, so that it stays the same service when
// the rest changes or the Sidecar is started again.
func ParseStatic(text []byte, advertiseIP string) ([]Entry, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	split := splitYAML
	switch trimmed := bytes.TrimSpace(text); {
	case len(trimmed) == 0:
		return nil, pancake.Errorf(pancake.Invalid, "the file is empty; no services are written as []")
	case trimmed[0] == '[' || trimmed[0] == '{':
		split = splitJSON
	}
	pieces, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(pieces) > maxEntries {
		return nil, pancake.Errorf(pancake.Invalid, "%d services; %d are allowed", len(pieces), maxEntries)
	}
	entries, lines := make([]Entry, 0, len(pieces)), map[string]int{}
	for _, p := range pieces {
		e, err := staticEntry(p.text, advertiseIP)
		if err != nil {
			return nil, &lineError{p.line, err}
		}
		id := e.Service.ID
		if first, ok := lines[id]; ok {
			return nil, &lineError{p.line, pancake.Errorf(pancake.Invalid,
				"service %q has the name and ports, or the ID, of the one in line %d; give one of them another Service.ID", e.Service.Name, first)}
		}
		lines[id] = p.line
		entries = append(entries, e)
	}
	return entries, nil
}

// splitJSON finds the elements of a JSON list.
func splitJSON(text []byte) ([]piece, error) {
	line := func(offset int64) int {
		return 1 + bytes.Count(text[:min(max(offset, 0), int64(len(text)))], []byte("\n"))
	}
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		if wrong, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, &lineError{line(wrong.Offset - 1), pancake.Errorf(pancake.Invalid, "not JSON: %w", plain(err))}
		}
		return nil, &lineError{1, pancake.Errorf(pancake.Invalid, "not a list of services; it has to be [ {\"Service\": …}, … ]")}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil { // the bracket
		return nil, err
	}
	pieces := make([]piece, 0, len(all))
	for at, number := int64(0), 1; d.More(); {
		var element json.RawMessage
		if err := d.Decode(&element); err != nil {
			return nil, err
		}
		begins := d.InputOffset() - int64(len(element))
		number += bytes.Count(text[at:begins], []byte("\n"))
		at = begins
		pieces = append(pieces, piece{number, element})
	}
	return pieces, nil
}

// splitYAML finds the elements of a YAML list.
func splitYAML(text []byte) ([]piece, error) {
	var all []yaml.Node
	if err := yaml.Unmarshal(text, &all); err != nil {
		return nil, pancake.Errorf(pancake.Invalid, "not a list of services in YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	pieces := make([]piece, 0, len(all))
	for i := range all {
		var value any
		err := all[i].Decode(&value)
		var element []byte
		if err == nil {
			element, err = json.Marshal(value)
		}
		if err != nil {
			return nil, &lineError{all[i].Line, pancake.Errorf(pancake.Invalid, "%w", err)}
		}
		pieces = append(pieces, piece{all[i].Line, element})
	}
	return pieces, nil
}

func staticEntry(text []byte, advertiseIP string) (Entry, error) {
	e, err := decodeEntry(text)
	if err == nil {
		err = e.complete(advertiseIP)
	}
	switch {
	case err != nil:
	case e.TTL != 0:
		err = pancake.Errorf(pancake.Invalid, "TTL is for services that register themselves")
	case e.Check.Told():
		err = pancake.Errorf(pancake.Invalid, "a service in a file has no check of type %s", e.Check.Type)
	case e.Service.ID == "":
		e.Service.ID = staticID(&e.Service)
	case !validID(e.Service.ID):
		err = pancake.Errorf(pancake.Invalid, "Service.ID is %q; %s", clip(e.Service.ID), idRule)
	}
	if err != nil && e.Service.Name != "" {
		err = pancake.Errorf(pancake.Invalid, "service %q: %w", clip(e.Service.Name), err)
	}
	return e, err
}

// staticID makes an ID, as long as a container's, from what makes a service the same one.
func staticID(s *pancake.Service) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", s.Name)
	for _, p := range s.Ports {
		fmt.Fprintf(h, " %q %d %q", p.Type, p.Port, p.IP)
	}
	return hex.EncodeToString(h.Sum(nil))[:shortID]
}
