package discover

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// What is read of Kubernetes' objects.
type (
	kubeObject interface{ meta() kubeMeta }

	kubeMeta struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		ResourceVersion   string            `json:"resourceVersion"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
		DeletionTimestamp *time.Time        `json:"deletionTimestamp"`
		Labels            map[string]string `json:"labels"`
	}

	kubeService struct {
		Metadata kubeMeta `json:"metadata"`
		Spec     struct {
			Selector map[string]string `json:"selector"`
			Ports    []kubePort        `json:"ports"`
		} `json:"spec"`
	}

	kubePort struct {
		Protocol string `json:"protocol"`
		Port     int64  `json:"port"`
		NodePort int64  `json:"nodePort"`
	}

	kubePod struct {
		Metadata kubeMeta `json:"metadata"`
		Spec     struct {
			NodeName   string `json:"nodeName"`
			Containers []struct {
				Image string `json:"image"`
			} `json:"containers"`
		} `json:"spec"`
		Status struct {
			Conditions []struct {
				Type   string `json:"type"`
				Status string `json:"status"`
			} `json:"conditions"`
		} `json:"status"`
	}

	kubeNode struct {
		Metadata kubeMeta `json:"metadata"`
		Status   struct {
			Addresses []kubeAddress `json:"addresses"`
		} `json:"status"`
	}

	kubeAddress struct {
		Type    string `json:"type"`
		Address string `json:"address"`
	}
)

func (s kubeService) meta() kubeMeta { return s.Metadata }
func (p kubePod) meta() kubeMeta     { return p.Metadata }
func (n kubeNode) meta() kubeMeta    { return n.Metadata }

// ready reports whether a pod takes traffic.
func (p *kubePod) ready() bool {
	if p.Metadata.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// backs reports whether a pod is one of a service's: by its selector, or, without one,
// by the label that Sidecar goes by.
func (p *kubePod) backs(s *kubeService) bool {
	if len(s.Spec.Selector) == 0 {
		return p.Metadata.Labels[pancake.LabelServiceName] == s.Metadata.Labels[pancake.LabelServiceName]
	}
	for k, v := range s.Spec.Selector {
		if p.Metadata.Labels[k] != v {
			return false
		}
	}
	return true
}

// announced reports whether a service is one for Sidecar.
func (s *kubeService) announced() bool {
	return s.Metadata.Labels[pancake.LabelServiceName] != "" && s.Metadata.Labels[pancake.LabelSidecarDiscover] != "false"
}

// found works out what is announced; it is not complete until all kinds have been listed.
func (k *Kubernetes) found() (out map[string]Found, complete bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.missing > 0 {
		return nil, false
	}
	var services []kubeService
	for _, s := range k.services {
		if s.announced() {
			services = append(services, s)
		}
	}
	// The oldest first: a pod behind several services is the first one's under its
	// own UID, as Sidecar has it.
	slices.SortFunc(services, func(a, b kubeService) int {
		return cmp.Or(a.Metadata.CreationTimestamp.Compare(b.Metadata.CreationTimestamp), cmp.Compare(a.Metadata.Name, b.Metadata.Name))
	})
	addresses := k.addresses()
	out = map[string]Found{}
	for _, p := range k.pods {
		if !p.ready() || !k.cfg.AllNodes && p.Spec.NodeName != k.cfg.Node || !validID(p.Metadata.UID) {
			continue
		}
		for i := range services {
			if !p.backs(&services[i]) {
				continue
			}
			f := podFound(&services[i], &p, cmp.Or(addresses[p.Spec.NodeName], k.cfg.AdvertiseIP))
			if _, taken := out[f.Service.ID]; taken {
				f.Service.ID = clip(f.Service.ID + "." + services[i].Metadata.Name)
			}
			out[f.Service.ID] = f
		}
	}
	return out, true
}

// podFound makes a pod's service.
func podFound(s *kubeService, p *kubePod, ip string) Found {
	out := pancake.Service{
		ID: p.Metadata.UID, Name: clip(s.Metadata.Labels[pancake.LabelServiceName]), Created: p.Metadata.CreationTimestamp.UTC(),
		ProxyMode: proxyMode(s.Metadata.Labels[pancake.LabelProxyMode]),
	}
	if len(p.Spec.Containers) > 0 {
		out.Image = clip(p.Spec.Containers[0].Image)
	}
	for _, port := range s.Spec.Ports {
		protocol := strings.ToLower(cmp.Or(port.Protocol, "TCP"))
		if port.NodePort < 1 || port.NodePort > 65535 || port.Port < 1 || port.Port > 65535 || protocol != "tcp" && protocol != "udp" {
			continue // it cannot be reached from outside, or not by us
		}
		out.Ports = append(out.Ports, pancake.ServicePort{Type: protocol, Port: port.NodePort, ServicePort: port.Port, IP: ip})
	}
	out.Ports = sortPorts(out.Ports)
	return Found{Service: out, Check: health.Spec{Type: health.AlwaysSuccessful}} // Kubernetes has checked
}

// addresses are those of the nodes, by name.
func (k *Kubernetes) addresses() map[string]string {
	out := map[string]string{}
	for _, n := range k.nodes {
		for _, kind := range []string{"InternalIP", "ExternalIP"} {
			i := slices.IndexFunc(n.Status.Addresses, func(a kubeAddress) bool { return a.Type == kind })
			if i >= 0 && out[n.Metadata.Name] == "" {
				out[n.Metadata.Name] = clip(n.Status.Addresses[i].Address)
			}
		}
	}
	return out
}
