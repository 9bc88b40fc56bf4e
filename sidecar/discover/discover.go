// Package discover finds the services that run on this host: containers of a
// Docker engine, the entries of a file, pods of Kubernetes, and processes that
// register themselves. Any number of these sources may run at once.
package discover

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
	"github.com/pancake-stack/pancake/sidecar/catalog"
	"github.com/pancake-stack/pancake/sidecar/health"
)

// Found is one service and how it says it wants to be checked.
type Found struct {
	Service pancake.Service // Status, Updated and Hostname are left to the catalogue
	Check   health.Spec
	// Listener is a URL that wants to be told of every change of the catalogue; "" for none.
	Listener string
}

// Sink is told what one source finds. It is called from one goroutine, with the
// context of the source's Run. Each source has a sink of its own, and knows only
// the IDs that it has told of.
type Sink interface {
	// Up says that a service runs, or that its description is different now.
	Up(ctx context.Context, f Found)
	// Gone says that the service with this ID runs no more.
	Gone(ctx context.Context, id string)
	// Status says how a service is whose check is told (health.Spec.Told): the
	// source knows, nobody else has to find out.
	Status(ctx context.Context, id string, status pancake.ServiceStatus, note string)
	// Settled says, once, that all services that ran at the start have been told.
	Settled(ctx context.Context)
}

// clip keeps a text within what the catalogue takes.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), catalog.MaxText)], "")
}

// note keeps a text within what a check may say.
func note(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	return strings.ToValidUTF8(s[:min(len(s), health.MaxNote)], "")
}

func proxyMode(label string) string {
	if label == "tcp" || label == "ws" {
		return label
	}
	return "http"
}

// sortPorts puts ports into the one order in which they are announced, without
// repetitions, and no more than the catalogue takes.
func sortPorts(ports []pancake.ServicePort) []pancake.ServicePort {
	slices.SortFunc(ports, func(a, b pancake.ServicePort) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.ServicePort, b.ServicePort), cmp.Compare(a.ContainerPort, b.ContainerPort),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.IP, b.IP))
	})
	ports = slices.Compact(ports)
	return ports[:min(len(ports), catalog.MaxPorts)]
}

// listener is the URL of Sidecar's receivers on a port.
func listener(ip string, port int64) string {
	return "http://" + net.JoinHostPort(ip, strconv.FormatInt(port, 10)) + "/sidecar/update"
}
