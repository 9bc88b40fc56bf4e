package route53

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"slices"
)

type zoneXML struct {
	ID        string `xml:"Id"`
	Name      string `xml:"Name"`
	Reference string `xml:"CallerReference"`
	Private   bool   `xml:"Config>PrivateZone"`
}

type zonesXML struct {
	XMLName  xml.Name
	Zones    []zoneXML `xml:"HostedZones>HostedZone"`
	DNSName  string    `xml:"DNSName,omitempty"`
	Marker   string    `xml:"Marker"`
	More     bool      `xml:"IsTruncated"`
	Next     string    `xml:"NextMarker,omitempty"`
	NextName string    `xml:"NextDNSName,omitempty"`
	NextID   string    `xml:"NextHostedZoneId,omitempty"`
	Max      int       `xml:"MaxItems"`
}

func show(z Zone) zoneXML {
	return zoneXML{ID: "/hostedzone/" + z.ID, Name: z.Name, Reference: "fake", Private: z.Private}
}

func (f *Fake) listZones(c call) (any, *problem) {
	q := c.URL.Query()
	out := zonesXML{XMLName: xml.Name{Space: xmlns, Local: "ListHostedZonesResponse"}, Max: number(q.Get("maxitems"), 100), Marker: q.Get("marker")}
	sorted := slices.SortedFunc(slices.Values(f.zones), func(a, b Zone) int { return cmp.Compare(a.ID, b.ID) })
	for _, z := range sorted {
		if z.ID < out.Marker {
			continue
		}
		if len(out.Zones) == out.Max {
			out.More, out.Next = true, z.ID
			break
		}
		out.Zones = append(out.Zones, show(z))
	}
	return out, nil
}

func (f *Fake) listZonesByName(c call) (any, *problem) {
	q := c.URL.Query()
	out := zonesXML{XMLName: xml.Name{Space: xmlns, Local: "ListHostedZonesByNameResponse"}, Max: number(q.Get("maxitems"), 100), DNSName: q.Get("dnsname")}
	order := func(name, id string) string { return reversed(name) + "\x01" + id }
	start := ""
	if out.DNSName != "" {
		start = order(fqdn(out.DNSName), q.Get("hostedzoneid"))
	}
	sorted := slices.SortedFunc(slices.Values(f.zones), func(a, b Zone) int { return cmp.Compare(order(a.Name, a.ID), order(b.Name, b.ID)) })
	for _, z := range sorted {
		if order(z.Name, z.ID) < start {
			continue
		}
		if len(out.Zones) == out.Max {
			out.More, out.NextName, out.NextID = true, z.Name, z.ID
			break
		}
		out.Zones = append(out.Zones, show(z))
	}
	return out, nil
}

func (f *Fake) getZone(c call) (any, *problem) {
	return struct {
		XMLName xml.Name `xml:"https://route53.amazonaws.com/doc/2013-04-01/ GetHostedZoneResponse"`
		Zone    zoneXML  `xml:"HostedZone"`
		Servers []string `xml:"DelegationSet>NameServers>NameServer"`
	}{Zone: show(*c.zone), Servers: []string{"ns-1.awsdns-01.org"}}, nil
}

var _ http.Handler = (*Fake)(nil)
