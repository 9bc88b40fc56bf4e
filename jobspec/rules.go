package jobspec

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
)

// rule checks a value of the right type further and may put it into its usual form.
type rule func(out *report, row row, n *node, target any)

// Limits of values.
const (
	// maxInstances is as many tasks as Mesos is documented to have run in production.
	maxInstances = 100_000
	maxCPUs      = 1e6 // as pancake.MilliCPU reads
	maxImage     = 255 // characters of an image name, as registries take
)

func atLeast(low int) rule { return between(low, 1<<31-1) }

func between(low, high int) rule {
	return func(out *report, row row, n *node, target any) {
		switch v := *target.(*int); {
		case v < low:
			out.errorf(n.place, "%d is too small: the least is %d; write for example %s", v, low, row.example)
		case v > high:
			out.errorf(n.place, "%d is too large: the most is %d; write for example %s", v, high, row.example)
		}
	}
}

func cpus(out *report, row row, n *node, target any) {
	switch v := *target.(*float64); {
	case v > maxCPUs:
		out.errorf(n.place, "%s is too large; write for example %s", n.describe(), row.example)
	case pancake.CPUs(v) <= 0:
		out.errorf(n.place, "%s is too small: the least is 0.001; write for example %s", n.describe(), row.example)
	}
}

func oneOf(words ...string) rule {
	return func(out *report, _ row, n *node, target any) {
		word := *target.(*string)
		if slices.Contains(words, word) {
			return
		}
		list := strings.Join(words, ", ")
		if hint := nearest(word, words); hint != "" {
			out.errorf(n.place, "%s is not one of %s; %s", quoted(word), list, hint)
			return
		}
		out.errorf(n.place, "%s is not known; write one of %s", quoted(word), list)
	}
}

const nul = "holds a NUL character, which no program can be passed; remove it"

func noNUL(out *report, _ row, n *node, target any) {
	if strings.Contains(*target.(*string), "\x00") {
		out.errorf(n.place, nul)
	}
}

// imagePattern is a Docker repository: an optional registry with a port, then
// a path in lower case.
var imagePattern = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?` +
	`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

func image(out *report, row row, n *node, target any) {
	name := *target.(*string)
	repository := name[strings.LastIndexByte(name, '/')+1:]
	switch bare, _, tagged := strings.Cut(repository, ":"); {
	case name == "":
		out.errorf(n.place, "is empty; write for example %s", row.example)
	case strings.Contains(name, "@"):
		out.errorf(n.place, "%s has a digest; the tag that is released chooses the version: write the name only, for example %s", quoted(name), row.example)
	case tagged:
		out.errorf(n.place, "%s has a tag; the tag that is released is added to it: write %s and release with that tag",
			quoted(name), quoted(strings.TrimSuffix(name, repository)+bare))
	case !imagePattern.MatchString(name) || len(name) > maxImage:
		out.errorf(n.place, "%s is not the name of an image: up to %d lower-case letters, digits, ., _, - and /, perhaps behind a registry; write for example %s",
			quoted(name), maxImage, row.example)
	}
}

// names checks the names of a mapping of texts.
func names(what string) rule {
	return func(out *report, row row, n *node, _ any) {
		for _, f := range n.fields {
			if strings.TrimSpace(f.key) == "" || strings.ContainsAny(f.key, "=\x00") {
				out.errorf(f.at, "%s is not the name of %s: it must not be empty nor contain =; write for example %s", quoted(f.key), what, row.example)
			}
			if strings.Contains(f.value.text, "\x00") {
				out.errorf(f.value.place, nul)
			}
		}
	}
}

func labels(out *report, row row, n *node, target any) {
	names("a label")(out, row, n, target)
	for _, f := range n.fields {
		if strings.HasPrefix(f.key, "pancake.") {
			out.errorf(f.at, "labels that begin with pancake. are set by Pancake itself; choose another name")
		}
	}
}

func envVars(out *report, row row, n *node, target any) {
	names("a variable")(out, row, n, target)
	for _, f := range n.fields {
		if strings.HasPrefix(f.value.text, "vault://") {
			out.errorf(f.value.place, "secrets from Vault are not supported yet, and the container would get this address instead of the secret; write a value")
		}
	}
}

// groupPattern is what the scheduler takes as the name of a group.
var groupPattern = regexp.MustCompile(`^[A-Za-z0-9._@:/-]{1,128}$`)

// group checks the name of a group whose members may change or see the service.
func group(out *report, row row, n *node, target any) {
	switch name := *target.(*string); {
	case name == "*":
		out.errorf(n.place, "* stands for all groups in a token only; a service without group and readWriteGroups is open to all: remove it")
	case !groupPattern.MatchString(name):
		out.errorf(n.place, "%s is not the name of a group: 1 to 128 letters, digits, ., _, -, @, : or /; write for example %s", quoted(name), row.example)
	}
}

// uri puts the slash in front that Singularity adds, too.
func uri(out *report, row row, n *node, target any) {
	t := target.(*string)
	switch {
	case *t == "": // as if it were not there
	case strings.Contains(*t, "://"):
		out.errorf(n.place, "%s names a host; write the path only, for example %s", quoted(*t), row.example)
	case strings.ContainsFunc(*t, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		out.errorf(n.place, "%s holds blanks or control characters; write for example %s", quoted(*t), row.example)
	default:
		*t = "/" + strings.TrimPrefix(*t, "/")
	}
}

// together checks what several values say of each other. Values that were
// wrong by themselves are not looked at again.
func (r *reader) together(at place) {
	if r.wrong["container.ports"] {
		return
	}
	ports := r.spec.Container.Ports
	if n := r.read["container.ports"]; n != nil && len(ports) > 0 && r.spec.Container.Network == pancake.NetworkHost {
		r.errorf(n.place, "ports are published with network: BRIDGE only, and this is HOST%s, where the program listens on the agent itself; remove one of the two",
			within(n, at))
	}
	if n := r.read["singularity.healthcheckPortIndex"]; n != nil && r.spec.Singularity.HealthcheckPortIndex >= len(ports) {
		r.errorf(n.place, "%d is not the index of a port: container.ports has %d%s, counted from 0",
			r.spec.Singularity.HealthcheckPortIndex, len(ports), within(n, at))
	} else if n := r.read["singularity.healthcheckUri"]; n != nil && r.spec.Singularity.HealthcheckURI != "" {
		r.askable(n, at, ports)
	}
	if labels := r.read["container.labels"]; labels != nil {
		r.portLabels(labels, at, ports)
	}
	if r.spec.Container.Network == pancake.NetworkBridge && r.spec.Singularity.RequestType == pancake.TypeService {
		r.reachable(at, ports)
	}
}

// within names the environment at at, unless n is written in it.
func within(n *node, at place) string {
	if strings.HasPrefix(n.path, at.path) {
		return ""
	}
	return " in " + at.path
}

// askable checks that there is a port on which the health check can ask.
func (r *reader) askable(uri *node, at place, ports []pancake.PortMapping) {
	switch i := r.spec.Singularity.HealthcheckPortIndex; {
	case len(ports) == 0:
		r.warnf(uri.place, "has no effect%s: container.ports has no port to ask on", within(uri, at))
	case i < len(ports) && ports[i].Protocol == "udp":
		r.errorf(uri.place, "is asked over tcp, and port %d is udp only%s; name a tcp port with healthcheckPortIndex",
			ports[i].ContainerPort, within(uri, at))
	}
}

// portLabels warns about ServicePort_<port> labels without their port.
func (r *reader) portLabels(labels *node, at place, ports []pancake.PortMapping) {
	for _, f := range labels.fields {
		port, ok := strings.CutPrefix(f.key, pancake.LabelServicePort)
		if ok && !slices.ContainsFunc(ports, func(p pancake.PortMapping) bool { return strconv.Itoa(p.ContainerPort) == port }) {
			r.warnf(f.at, "has no effect%s: %s is not one of container.ports", within(labels, at), quoted(port))
		}
	}
}

// reachable warns when nobody can reach a service, or tell whether it works.
func (r *reader) reachable(at place, ports []pancake.PortMapping) {
	if len(ports) == 0 {
		r.warnf(place{at.line, at.column, at.path + ".container.ports"},
			"no ports: nothing can reach the service; add for example ports: [8080], or requestType: WORKER under singularity if nothing needs to")
		return
	}
	_, labelled := r.spec.Container.Labels[pancake.LabelHealthCheck]
	tcp := slices.ContainsFunc(ports, func(p pancake.PortMapping) bool { return p.Protocol != "udp" })
	unsure := r.wrong["singularity.healthcheckUri"] || r.wrong["container.labels"]
	if r.spec.Singularity.HealthcheckURI == "" && !labelled && tcp && !unsure {
		r.warnf(place{at.line, at.column, at.path + ".singularity.healthcheckUri"},
			"no healthcheck defined: a TCP connect to the first port decides; add for example healthcheckUri: /healthz")
	}
}

// sameKeys warns about variables that some environments have and others lack:
// they are easily forgotten in one of them.
func sameKeys(out *report, environments []*environment) {
	all := map[string]bool{}
	for _, e := range environments {
		for key := range e.spec.Container.EnvVars {
			all[key] = true
		}
	}
	for _, e := range environments {
		var missing []string
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if _, has := e.spec.Container.EnvVars[key]; !has {
				missing = append(missing, key)
			}
		}
		if len(missing) > 0 {
			out.warnf(place{e.at.line, e.at.column, e.at.path + ".container.env_vars"},
				"other environments set %s as well; set it here, too, or in common", show(missing))
		}
	}
}
