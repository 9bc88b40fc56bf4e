package sidecar

import (
	"sync"
	"time"

	"github.com/pancake-stack/pancake/sidecar/client"
)

// zonesFor is how long the zones of hosts are remembered: they are asked for host by
// host, for each change, and hardly ever change.
const zonesFor = time.Second

// zones says where hosts are, as they say themselves.
type zones struct {
	members func() []client.Member

	mu     sync.Mutex
	byHost map[string]string
	until  time.Time
}

// of is the zone of a host, "" if it does not say.
func (z *zones) of(host string) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	if now := time.Now(); now.After(z.until) {
		z.byHost, z.until = map[string]string{}, now.Add(zonesFor)
		for _, m := range z.members() {
			if m.Zone != "" {
				z.byHost[m.Name] = m.Zone
			}
		}
	}
	return z.byHost[host]
}
