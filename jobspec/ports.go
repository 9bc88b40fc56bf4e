package jobspec

import (
	"path"
	"strconv"
	"strings"

	"github.com/pancake-stack/pancake"
)

// portGrammar explains the forms of a port.
const portGrammar = `write the port in the container, as 8080, or with the port on the host, as "8080:80"; ` +
	`each may end with /tcp (the default), /udp or /tcp,udp`

// port reads one element of ports. It goes by the text and not by what YAML
// makes of it: YAML 1.1 reads an unquoted 8080:22 as a number to the base of 60.
func (r *reader) port(n *node) (pancake.PortMapping, bool) {
	ports, protocol, hasProtocol := strings.Cut(n.text, "/")
	inside, onHost, fixed := strings.Cut(ports, ":")
	p := pancake.PortMapping{Protocol: "tcp"}
	var ok bool
	if p.ContainerPort, ok = r.portNumber(n, inside, 1); !ok {
		return p, false
	}
	if fixed {
		// Port 0 of the host means that one is picked, as without it.
		if p.HostPort, ok = r.portNumber(n, onHost, 0); !ok {
			return p, false
		}
	}
	if hasProtocol {
		switch strings.ReplaceAll(strings.ToLower(protocol), " ", "") {
		case "tcp":
		case "udp":
			p.Protocol = "udp"
		case "tcp,udp", "udp,tcp":
			p.Protocol = "tcp,udp"
		default:
			r.errorf(n.place, "%s has the unknown protocol %s; %s", quoted(n.text), quoted(protocol), portGrammar)
			return p, false
		}
	}
	return p, true
}

func (r *reader) portNumber(n *node, digits string, low int) (int, bool) {
	number, err := strconv.ParseInt(digits, 10, 64)
	// Only plain digits: ParseInt also takes a sign, and zeros in front hide octal numbers.
	if err != nil || strconv.FormatInt(number, 10) != digits {
		r.errorf(n.place, "%s is not a port; %s", quoted(n.text), portGrammar)
		return 0, false
	}
	if number < int64(low) || number > 65535 {
		r.errorf(n.place, "%d is not a port: ports go from %d to 65535", number, low)
		return 0, false
	}
	return int(number), true
}

// distinctPorts refuses two mappings of one port of the container or of the host.
func distinctPorts(out *report, _ row, n *node, target any) {
	inside, onHost := map[string]int{}, map[string]int{}
	for i, p := range *target.(*[]pancake.PortMapping) {
		for protocol := range strings.SplitSeq(p.Protocol, ",") {
			key := strconv.Itoa(p.ContainerPort) + "/" + protocol
			if first, twice := inside[key]; twice {
				out.errorf(n.items[i].place, "port %s of the container is already in %s; remove one of the two", key, n.items[first].path)
				break
			}
			inside[key] = i
			if p.HostPort == 0 {
				continue
			}
			key = strconv.Itoa(p.HostPort) + "/" + protocol
			if first, twice := onHost[key]; twice {
				out.errorf(n.items[i].place, "port %s of the host is already in %s; choose another", key, n.items[first].path)
				break
			}
			onHost[key] = i
		}
	}
}

// volume reads one element of volumes, "host:container[:mode]".
func (r *reader) volume(n *node) (pancake.Volume, bool) {
	const grammar = "write host:container or host:container:RO, for example /var/data:/data:RO"
	parts := strings.Split(n.text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		r.errorf(n.place, "%s is not a volume; %s", quoted(n.text), grammar)
		return pancake.Volume{}, false
	}
	v := pancake.Volume{HostPath: parts[0], ContainerPath: parts[1], Mode: "RW"}
	for _, p := range parts[:2] {
		if !path.IsAbs(p) || strings.Contains(p, "\x00") {
			r.errorf(n.place, "%s: the path %s does not begin with /; %s", quoted(n.text), quoted(p), grammar)
			return v, false
		}
	}
	if path.Clean(v.ContainerPath) == "/" {
		r.errorf(n.place, "%s: nothing can be mounted over the root of the container; %s", quoted(n.text), grammar)
		return v, false
	}
	if len(parts) == 3 {
		v.Mode = strings.ToUpper(parts[2])
	}
	if v.Mode != "RW" && v.Mode != "RO" {
		r.errorf(n.place, "%s: the mode %s is neither RW nor RO; %s", quoted(n.text), quoted(parts[2]), grammar)
		return v, false
	}
	return v, true
}

// distinctVolumes refuses two volumes at one path of the container.
func distinctVolumes(out *report, _ row, n *node, target any) {
	seen := map[string]int{}
	for i, v := range *target.(*[]pancake.Volume) {
		inside := path.Clean(v.ContainerPath)
		if first, twice := seen[inside]; twice {
			out.errorf(n.items[i].place, "%s is already mounted by %s; choose another path in the container", quoted(inside), n.items[first].path)
			continue
		}
		seen[inside] = i
	}
}
