package traefik

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/traefik/paerser/parser"
)

// decoded are the labels that make configuration, by their beginning, as in
// Traefik: of TLS only the default store can be set by label.
var decoded = []string{"traefik.http.", "traefik.tcp.", "traefik.udp.", "traefik.tls.stores.default."}

// notOurs begin the labels of Traefik's Docker provider that mean nothing here.
var notOurs = []string{"traefik.docker.", "traefik.swarm.", "traefik.tags"}

// decodeLabels reads the traefik labels of a container. A label that Traefik
// would not understand is noted, and the element that it belongs to left out.
func decodeLabels(labels map[string]string, n *notes) (enabled bool, conf *Configuration) {
	ours := make(map[string]string, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		lower := strings.ToLower(key)
		startsWith := func(prefix string) bool { return strings.HasPrefix(lower, prefix) }
		switch {
		case lower == "traefik.enable":
			on, err := strconv.ParseBool(labels[key])
			if err != nil {
				n.add(key, "%q is neither true nor false; the service is not routed", labels[key])
			}
			if !on {
				return false, nil
			}
		case slices.ContainsFunc(decoded, startsWith):
			ours[key] = labels[key]
		case startsWith("traefik.") && !slices.ContainsFunc(notOurs, startsWith):
			n.add(key, "makes no route; it is ignored")
		}
	}
	if len(ours) == 0 {
		return true, newConfiguration()
	}
	conf, err := decode(ours)
	if err != nil {
		conf = decodeGood(ours, n)
	}
	return conf != nil, conf
}

// decodeGood decodes the elements whose labels are all good. It returns nil if
// a bad label belongs to no element, so that nobody can say what it was to protect.
func decodeGood(labels map[string]string, n *notes) *Configuration {
	elements := make(map[string]map[string]string)
	for key, value := range labels {
		e := element(key)
		if elements[e] == nil {
			elements[e] = make(map[string]string)
		}
		elements[e][key] = value
	}
	n.bad = make(map[string]bool)
	good := make(map[string]string)
	for _, e := range slices.Sorted(maps.Keys(elements)) {
		_, err := decode(elements[e])
		if err == nil {
			maps.Copy(good, elements[e])
			continue
		}
		key, err := culprit(elements[e], err)
		if e == "" {
			n.add(key, "%v; the service is not routed", err)
			return nil
		}
		n.add(key, "%v; %s is left out", err, e)
		protocol, rest, _ := strings.Cut(strings.TrimPrefix(e, "traefik."), ".")
		kind, _, _ := strings.Cut(rest, ".")
		n.bad[protocol], n.bad[protocol+"."+kind] = true, true
	}
	if len(good) == 0 {
		return newConfiguration()
	}
	conf, err := decode(good)
	if err != nil {
		n.add("", "its traefik labels contradict each other: %v; the service is not routed", err)
		return nil
	}
	return conf
}

// element is the part of the configuration that a label belongs to, such as
// "traefik.http.routers.web", or "" if it names none.
func element(key string) string {
	parts := strings.SplitN(strings.ToLower(key), ".", 5)
	if len(parts) < 5 {
		return ""
	}
	switch parts[1] + "." + parts[2] {
	case "http.routers", "http.services", "http.middlewares",
		"tcp.routers", "tcp.services", "tcp.middlewares",
		"udp.routers", "udp.services", "tls.stores":
		return strings.Join(parts[:4], ".")
	}
	return ""
}

// culprit finds the label of an element that is wrong by itself.
func culprit(labels map[string]string, err error) (string, error) {
	keys := slices.Sorted(maps.Keys(labels))
	for _, key := range keys {
		if _, err := decode(map[string]string{key: labels[key]}); err != nil {
			return key, err
		}
	}
	return keys[0], err
}

// decode reads labels as Traefik does. The decoder panics on some malformed
// keys; they are errors here.
func decode(labels map[string]string) (conf *Configuration, err error) {
	defer func() {
		if recover() != nil {
			conf, err = nil, errors.New("malformed label")
		}
	}()
	conf = newConfiguration()
	if err := parser.Decode(labels, conf, parser.DefaultRootName); err != nil {
		return nil, fmt.Errorf("not understood: %w", err)
	}
	return conf, nil
}

func newConfiguration() *Configuration {
	return &Configuration{HTTP: &HTTPConfiguration{}, TCP: &TCPConfiguration{}, UDP: &UDPConfiguration{}, TLS: &TLSConfiguration{}}
}
