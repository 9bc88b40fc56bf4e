package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/internal/identity"
	"github.com/pancake-stack/pancake/scheduler/client"
)

// Bounds on what may be asked for. Ids are Singularity's, but for the length of
// a deploy's: its 50 are too few for a commit id as the tag of a forced release.
const (
	maxInstances = 1000
	maxEntries   = 1000      // environment variables, labels, ports, …, each
	maxText      = 256 << 10 // bytes of environment and labels, each
	maxSeconds   = 24 * 60 * 60
	maxGroups    = 100
	maxName      = 255 // bytes of a service, environment, tag or user, each
	// maxStored bounds what is stored of a deploy, in bytes. JSON escapes take up
	// to six times the text, and one transaction of etcd has room for 1 MiB, of
	// which what is noted later of a failure (deploy.maxMessage and its like) needs the rest.
	maxStored = 384 << 10
)

var (
	requestID = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,100}$`)
	deployID  = regexp.MustCompile(`^[a-zA-Z0-9_.]{1,150}$`)
)

func invalid(format string, args ...any) error {
	return pancake.Errorf(pancake.Invalid, format, args...)
}

// validate fills in defaults, resets what only the scheduler writes, and
// refuses what can never run.
func validate(b *client.DeployBody) error {
	r, d := &b.Request, &b.Deploy
	switch {
	case !requestID.MatchString(r.ID):
		return invalid("request id %q: Id cannot be null, contain characters other than [a-zA-Z0-9_-], or be longer than 100", r.ID)
	case !deployID.MatchString(d.ID) || strings.Trim(d.ID, ".") == "": // "." and ".." are no segments of a path
		return invalid("deploy id %q: Id cannot be null, contain nothing but dots or characters other than [a-zA-Z0-9_.], or be longer than 150", d.ID)
	case cmp.Or(d.RequestID, r.ID) != r.ID:
		return invalid("the deploy names request %s, but comes with request %s", d.RequestID, r.ID)
	}
	r.Type = cmp.Or(r.Type, pancake.TypeService)
	if r.Type != pancake.TypeService && r.Type != pancake.TypeWorker {
		return invalid("requestType %q is not supported; SERVICE and WORKER are", r.Type)
	}
	if err := validInstances(r.Instances); err != nil {
		return err
	}
	groups := slices.Concat(r.ReadWriteGroups, r.ReadOnlyGroups)
	if r.Group != "" {
		groups = append(groups, r.Group)
	}
	if len(groups) > maxGroups {
		return invalid("request %s names %d groups; at most %d are taken", r.ID, len(groups), maxGroups)
	}
	if err := (identity.Grant{Role: identity.Viewer, Groups: groups}).Validate(); err != nil {
		return err
	}
	if err := words("requiredAttributes", r.RequiredAttributes); err != nil {
		return err
	}
	if err := validNames(r, d); err != nil {
		return err
	}
	*r = pancake.Request{
		ID: r.ID, Service: r.Service, Environment: r.Environment, Type: r.Type, State: pancake.RequestActive,
		Instances: r.Instances, RequiredAttributes: r.RequiredAttributes,
		Group: r.Group, ReadWriteGroups: r.ReadWriteGroups, ReadOnlyGroups: r.ReadOnlyGroups,
	}
	*d = pancake.Deploy{
		ID: d.ID, RequestID: r.ID, Tag: d.Tag, User: d.User, Container: d.Container, Resources: d.Resources,
		Health: d.Health, Strategy: d.Strategy,
	}
	for _, check := range []func(*pancake.Deploy) error{validContainer, validPorts, validVolumes, validResources, validTimes} {
		if err := check(d); err != nil {
			return err
		}
	}
	return validSize(b)
}

// validNames refuses what would garble the terminal of whoever looks, and what
// is no UTF-8, which protobuf refuses to carry to an agent.
func validNames(r *pancake.Request, d *pancake.Deploy) error {
	for _, n := range []struct{ what, text string }{
		{"request.service", r.Service}, {"request.environment", r.Environment}, {"deploy.tag", d.Tag}, {"deploy.user", d.User},
	} {
		if len(n.text) > maxName || !utf8.ValidString(n.text) || strings.ContainsFunc(n.text, unicode.IsControl) {
			return invalid("%s %.300q is longer than %d bytes, or not one line of plain text in UTF-8", n.what, n.text, maxName)
		}
	}
	return nil
}

// validSize refuses what does not fit into one transaction of the store. The
// settings of the request are stored twice while the deploy is pending.
func validSize(b *client.DeployBody) error {
	size := 0
	for _, v := range []any{b.Request, b.Request.Settings(), b.Deploy} {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode deploy %s of %s: %w", b.Deploy.ID, b.Request.ID, err)
		}
		size += len(text)
	}
	if size > maxStored {
		return invalid("deploy %s of %s is too large: it takes %d bytes to store and may take %d", b.Deploy.ID, b.Request.ID, size, maxStored)
	}
	return nil
}

func validInstances(n int) error {
	switch {
	case n < 1:
		return invalid("Instances must be greater than 0")
	case n > maxInstances:
		return invalid("instances: %d are more than the %d that one request may have", n, maxInstances)
	}
	return nil
}

func validContainer(d *pancake.Deploy) error {
	c := &d.Container
	c.Network = cmp.Or(c.Network, pancake.NetworkBridge)
	switch {
	case c.Image == "" || len(c.Image) > 500 || strings.ContainsFunc(c.Image, blank):
		return invalid("container.image %q is not the name of an image, such as registry/name:tag", c.Image)
	case c.Network != pancake.NetworkBridge && c.Network != pancake.NetworkHost:
		return invalid("container.network %q is not supported; BRIDGE and HOST are", c.Network)
	case strings.Contains(c.Command, "\x00"):
		return invalid("container.command holds a NUL character")
	}
	for k := range c.Env {
		if strings.Contains(k, "=") {
			return invalid("container.env: the name %q holds a \"=\"", k)
		}
	}
	if err := words("container.env", c.Env); err != nil {
		return err
	}
	return words("container.labels", c.Labels)
}

func blank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

func words(what string, m map[string]string) error {
	size := 0
	for k, v := range m {
		if k == "" || strings.Contains(k, "\x00") || strings.Contains(v, "\x00") {
			return invalid("%s: the name %q is empty, or it or its value holds a NUL character", what, k)
		}
		size += len(k) + len(v)
	}
	if len(m) > maxEntries || size > maxText {
		return invalid("%s: more than %d entries or %d bytes", what, maxEntries, maxText)
	}
	return nil
}

func validPorts(d *pancake.Deploy) error {
	if len(d.Container.Ports) > maxEntries {
		return invalid("container.portMappings: more than %d", maxEntries)
	}
	type hostPort struct {
		port  int
		proto string
	}
	taken := map[hostPort]bool{}
	d.Container.Ports = slices.Clone(d.Container.Ports)
	for i := range d.Container.Ports {
		m := &d.Container.Ports[i]
		m.Protocol = cmp.Or(m.Protocol, "tcp")
		if m.ContainerPort < 1 || m.ContainerPort > 65535 || m.HostPort < 0 || m.HostPort > 65535 {
			return invalid("container.portMappings: %d:%d is out of range; ports go from 1 to 65535", m.ContainerPort, m.HostPort)
		}
		if !slices.Contains([]string{"tcp", "udp", "tcp,udp", "udp,tcp"}, m.Protocol) {
			return invalid("container.portMappings: protocol %q of port %d is not tcp, udp or \"tcp,udp\"", m.Protocol, m.ContainerPort)
		}
		for proto := range strings.SplitSeq(m.Protocol, ",") {
			if m.HostPort != 0 && taken[hostPort{m.HostPort, proto}] {
				return invalid("container.portMappings: host port %d/%s is named twice", m.HostPort, proto)
			}
			taken[hostPort{m.HostPort, proto}] = true
		}
	}
	n := len(d.Container.Ports)
	if i := d.Health.PortIndex; i < 0 || i > 0 && i >= n {
		return invalid("Must request %d ports for healthcheckPortIndex %d, only requested %d", i+1, i, n)
	}
	return nil
}

func validVolumes(d *pancake.Deploy) error {
	if len(d.Container.Volumes) > maxEntries {
		return invalid("container.volumes: more than %d", maxEntries)
	}
	d.Container.Volumes = slices.Clone(d.Container.Volumes)
	for i := range d.Container.Volumes {
		v := &d.Container.Volumes[i]
		v.Mode = cmp.Or(v.Mode, "RW")
		for _, p := range []string{v.HostPath, v.ContainerPath} {
			if !path.IsAbs(p) || strings.ContainsAny(p, ":\x00") {
				return invalid("container.volumes: %q is not an absolute path without a colon", p)
			}
		}
		if v.Mode != "RW" && v.Mode != "RO" {
			return invalid("container.volumes: mode %q of %s is not RW or RO", v.Mode, v.ContainerPath)
		}
	}
	return nil
}

func validResources(d *pancake.Deploy) error {
	switch r := d.Resources; {
	case r.CPUs < 0:
		return invalid("resources.cpus: %s is below 0", r.CPUs)
	case r.MemoryMB < 1 || r.MemoryMB > 1e9:
		return invalid("resources.memoryMb: %d is not an amount of memory; Must be > 0", r.MemoryMB)
	case len(r.Ports) > 0:
		return invalid("resources.ports: name ports in container.portMappings")
	}
	return nil
}

func validTimes(d *pancake.Deploy) error {
	h, s := d.Health, d.Strategy
	switch {
	case len(h.URI) > 2000 || strings.ContainsFunc(h.URI, blank):
		return invalid("healthcheckUri %q is not a path such as /health", h.URI)
	case h.TimeoutSeconds < 0 || h.TimeoutSeconds > maxSeconds:
		return invalid("deployHealthTimeoutSeconds: %d is not from 0 to %d", h.TimeoutSeconds, maxSeconds)
	case s.InstancesPerStep < 0 || s.InstancesPerStep > maxInstances:
		return invalid("deployInstanceCountPerStep: %d is not from 0 to %d", s.InstancesPerStep, maxInstances)
	case s.StepWaitMillis < 0 || s.StepWaitMillis > maxSeconds*1000:
		return invalid("deployStepWaitTimeMs: %d is not from 0 to %d", s.StepWaitMillis, maxSeconds*1000)
	}
	return nil
}
