package discover

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
)

// shortID is how much of a container's id makes a service's: Docker's own short form.
const shortID = 12

const traefikPrefix = "traefik."

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
		Name:      clip(cmp.Or(c.Labels[d.cfg.NameLabel], c.Image)),
		Image:     clip(c.Image),
		Created:   time.Unix(c.Created, 0).UTC(),
		Ports:     d.ports(c),
		ProxyMode: proxyMode(c.Labels[pancake.LabelProxyMode]),
		Labels:    d.traefikLabels(c),
		Task:      clip(c.Labels[pancake.LabelTask]),
	}
	return Found{Service: s, CheckType: c.Labels[pancake.LabelHealthCheck], CheckArgs: c.Labels[pancake.LabelHealthCheckArgs]}
}

// clip keeps a text within what the catalogue takes.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), catalog.MaxText)], "")
}

func proxyMode(label string) string {
	if label == "tcp" || label == "ws" {
		return label
	}
	return "http"
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
	slices.SortFunc(ports, func(a, b pancake.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ServicePort, b.ServicePort), cmp.Compare(a.ContainerPort, b.ContainerPort),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.IP, b.IP))
	})
	ports = slices.Compact(ports) // Docker lists IPv4 and IPv6 apart
	return ports[:min(len(ports), catalog.MaxPorts)]
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
	if err != nil {
		d.log.Warn("a label is not a port number; the port is not proxied", "container", short(c.ID), "label", label, "value", value)
	}
	return int64(n)
}

// traefikLabels picks the labels from which routes are made. Half of them could
// make a route without its protection, so too many make no route at all.
func (d *Docker) traefikLabels(c *container.Summary) map[string]string {
	labels := map[string]string{}
	for k, v := range c.Labels {
		if strings.HasPrefix(strings.ToLower(k), traefikPrefix) {
			labels[k] = v
		}
	}
	if len(labels) == 0 {
		return nil
	}
	if err := catalog.ValidLabels(labels); err != nil {
		d.log.Error("the traefik labels are too large; the service gets no route", "container", short(c.ID), "err", err)
		return map[string]string{"traefik.enable": "false"}
	}
	return labels
}
