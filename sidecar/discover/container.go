package discover

import (
	"cmp"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// shortID is how much of a container's id makes a service's: Docker's own short form.
const shortID = 12

const traefikPrefix = "traefik."

// The ways to name a container's service. The first two are Sidecar's, and take the
// image where they find no name.
const (
	NameByLabel = "docker_label" // the label DockerConfig.NameLabel
	NameByRegex = "regex"        // group 1 of DockerConfig.NameMatch in the container's name, which begins with /
	NameByImage = "image"        // the last part of the image, without its tag: registry/team/web:1 is web
)

// namer makes the function that names a container's service.
func namer(cfg DockerConfig) (func(*container.Summary) string, error) {
	switch cfg.Namer {
	case "", NameByLabel:
		key := cmp.Or(cfg.NameLabel, pancake.LabelServiceName)
		return func(c *container.Summary) string { return cmp.Or(c.Labels[key], c.Image) }, nil
	case NameByImage:
		return func(c *container.Summary) string { return cmp.Or(shortImage(c.Image), c.Image) }, nil
	case NameByRegex:
		match, err := regexp.Compile(cfg.NameMatch)
		if err != nil {
			return nil, pancake.Errorf(pancake.Invalid, "the regular expression for names (--name-match, SERVICES_NAME_MATCH) does not parse: %w", err)
		}
		if match.NumSubexp() < 1 {
			return nil, pancake.Errorf(pancake.Invalid,
				"the regular expression for names (--name-match, SERVICES_NAME_MATCH) is %q; it needs a group in brackets that is the name, such as ^/(.+)-[0-9]+$", cfg.NameMatch)
		}
		return func(c *container.Summary) string {
			if len(c.Names) > 0 {
				if groups := match.FindStringSubmatch(c.Names[0]); groups != nil && groups[1] != "" {
					return groups[1]
				}
			}
			return c.Image
		}, nil
	}
	return nil, pancake.Errorf(pancake.Invalid, "the namer %q (SERVICES_NAMER) does not exist; known are %s, %s and %s",
		cfg.Namer, NameByLabel, NameByRegex, NameByImage)
}

// shortImage is the last part of an image's name, "" for one that has none, such as an id.
func shortImage(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil || strings.HasPrefix(image, "sha256:") {
		return ""
	}
	path := reference.Path(ref)
	return path[strings.LastIndexByte(path, '/')+1:]
}

// short cuts a container's id.
func short(id string) string { return id[:min(len(id), shortID)] }

// ours reports whether this Sidecar announces a container with these labels.
func (d *Docker) ours(labels map[string]string) bool {
	if labels[pancake.LabelSidecarDiscover] == "false" {
		return false
	}
	agent, labelled := labels[pancake.LabelAgent]
	switch {
	case !labelled:
		return d.cfg.ForeignContainers
	case d.cfg.Agent == "":
		return true // no agent of ours to tell apart: this Sidecar stands for the whole engine
	}
	return agent == d.cfg.Agent
}

// found turns what Docker says of a container into a service.
func (d *Docker) found(c *container.Summary) Found {
	s := pancake.Service{
		ID:        short(c.ID),
		Name:      clip(d.name(c)),
		Image:     clip(c.Image),
		Created:   time.Unix(c.Created, 0).UTC(),
		Ports:     d.ports(c),
		ProxyMode: proxyMode(c.Labels[pancake.LabelProxyMode]),
		Labels:    d.traefikLabels(c),
		Task:      clip(c.Labels[pancake.LabelTask]),
	}
	return Found{Service: s, Check: health.FromLabels(c.Labels), Listener: d.listener(c, s.Ports)}
}

// listener is where a container wants to be told of changes.
func (d *Docker) listener(c *container.Summary, ports []pancake.ServicePort) string {
	value, ok := c.Labels[pancake.LabelSidecarListener]
	if !ok {
		return ""
	}
	for _, p := range ports {
		if p.Type == "tcp" && p.ServicePort != 0 && strconv.FormatInt(p.ServicePort, 10) == strings.TrimSpace(value) {
			return listener(p.IP, p.Port)
		}
	}
	if d.firstTime(c, pancake.LabelSidecarListener) {
		d.log.Warn("no published tcp port has the service port of a label; the container is not told of changes",
			"container", short(c.ID), "label", pancake.LabelSidecarListener, "value", clip(value))
	}
	return ""
}

// firstTime reports whether a container's label has not been complained about yet.
func (d *Docker) firstTime(c *container.Summary, label string) bool {
	cause := [2]string{short(c.ID), label}
	defer func() { d.warned[cause] = true }()
	return !d.warned[cause]
}

// ports lists what can be reached from other hosts: published ports, or, in
// the host's network, those that labels name.
func (d *Docker) ports(c *container.Summary) []pancake.ServicePort {
	var ports []pancake.ServicePort
	if c.HostConfig.NetworkMode == "host" {
		for label := range c.Labels {
			n, err := strconv.ParseUint(strings.TrimPrefix(label, pancake.LabelServicePort), 10, 16)
			if strings.HasPrefix(label, pancake.LabelServicePort) && err == nil {
				ports = append(ports, pancake.ServicePort{Type: "tcp", Port: int64(n), ServicePort: d.servicePort(c, uint16(n)), IP: d.cfg.AdvertiseIP, ContainerPort: int64(n)})
			}
		}
	}
	for _, p := range c.Ports {
		if p.PublicPort != 0 {
			ports = append(ports, pancake.ServicePort{Type: p.Type, Port: int64(p.PublicPort), ServicePort: d.servicePort(c, p.PrivatePort), IP: d.reachable(p.IP), ContainerPort: int64(p.PrivatePort)})
		}
	}
	return sortPorts(ports) // Docker lists IPv4 and IPv6 apart
}

// reachable is the address of a port that is bound to ip.
func (d *Docker) reachable(ip netip.Addr) string {
	if !ip.IsValid() || ip.IsUnspecified() {
		return d.cfg.AdvertiseIP
	}
	return ip.String()
}

// servicePort reads the label ServicePort_<container port>; 0 without one.
func (d *Docker) servicePort(c *container.Summary, port uint16) int64 {
	label := pancake.LabelServicePort + strconv.Itoa(int(port))
	value, ok := c.Labels[label]
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	if err != nil && d.firstTime(c, label) {
		d.log.Warn("a label is not a port number; the port is not proxied", "container", short(c.ID), "label", label, "value", clip(value))
	}
	return int64(n)
}

// traefikLabels picks the labels from which routes are made. Half of them could
// make a route without its protection, so too many make no route at all.
func (d *Docker) traefikLabels(c *container.Summary) map[string]string {
	labels := map[string]string{}
	for k, v := range c.Labels {
		if isTraefik(k) {
			labels[k] = v
		}
	}
	if len(labels) == 0 {
		return nil
	}
	if err := catalog.ValidLabels(labels); err != nil {
		if d.firstTime(c, traefikPrefix) {
			d.log.Error("the traefik labels are too large; the service gets no route", "container", short(c.ID), "err", err)
		}
		return map[string]string{"traefik.enable": "false"}
	}
	return labels
}

func isTraefik(label string) bool {
	return strings.HasPrefix(strings.ToLower(label), traefikPrefix)
}
