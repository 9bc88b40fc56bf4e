package oldsidecar

import (
	"encoding/json"
	"net/http"
	"time"
)

// The statuses of a service.
const (
	ServiceAlive     = 0
	ServiceTombstone = 1
	ServiceSick      = 2
	ServiceUnknown   = 3
	ServiceDraining  = 4
)

// Port and Service are Sidecar's JSON.
type Port struct {
	Type        string
	Port        int64
	ServicePort int64
	IP          string
}

// Service is one instance of a service.
type Service struct {
	ID        string
	Name      string
	Image     string
	Created   time.Time
	Hostname  string
	Ports     []Port
	Updated   time.Time
	ProxyMode string
	Status    int
}

type server struct {
	Name        string
	Services    map[string]*Service
	LastUpdated time.Time
	LastChanged time.Time
}

type state struct {
	Servers     map[string]*server
	LastChanged time.Time
	ClusterName string
	Hostname    string
}

const (
	sendChanges    = 5
	sendTombstones = 10
	resendStep     = 50 * time.Nanosecond // added to Updated by each repetition
	maxMessage     = 1398
)

// Set says that a service runs on this host. It begins Alive.
func (p *Peer) Set(s Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Hostname, s.Updated = p.cfg.Name, time.Now().UTC()
	p.own[s.ID] = true
	p.add(s, false)
	p.announce(s, sendChanges)
}

// Drain takes a service of this host out of traffic. That is not gossiped.
func (p *Peer) Drain(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.get(p.cfg.Name, id)
	if s == nil || s.Status == ServiceTombstone {
		return false
	}
	d := *s
	d.Status, d.Updated = ServiceDraining, time.Now().UTC()
	p.add(d, false)
	return true
}

// Remove says that a service does not run on this host any more.
func (p *Peer) Remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.own, id)
	if s := p.get(p.cfg.Name, id); s != nil {
		t := *s
		t.Status, t.Updated = ServiceTombstone, time.Now().UTC()
		p.add(t, false)
		p.announce(t, sendTombstones)
	}
}

// Get returns a service of any host as this one knows it.
func (p *Peer) Get(host, id string) (Service, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.get(host, id); s != nil {
		return *s, true
	}
	return Service{}, false
}

func (p *Peer) get(host, id string) *Service {
	if srv := p.servers[host]; srv != nil {
		return srv.Services[id]
	}
	return nil
}

// add is Sidecar's AddServiceEntry: the later Updated wins, and what is older
// than a tombstone's life is dropped with what was there. News of others are
// told on. The caller holds the lock.
func (p *Peer) add(s Service, foreign bool) {
	old := p.get(s.Hostname, s.ID)
	if time.Since(s.Updated) > p.cfg.TombstoneFor+time.Minute {
		if old != nil {
			delete(p.servers[s.Hostname].Services, s.ID)
		}
		return
	}
	if old != nil && !s.Updated.After(old.Updated) {
		return
	}
	srv := p.servers[s.Hostname]
	if srv == nil {
		srv = &server{Name: s.Hostname, Services: map[string]*Service{}, LastUpdated: time.Unix(0, 0).UTC(), LastChanged: time.Unix(0, 0).UTC()}
		p.servers[s.Hostname] = srv
	}
	if s.Ports == nil {
		s.Ports = []Port{}
	}
	srv.Services[s.ID] = &s
	srv.LastUpdated = s.Updated
	if old == nil || old.Status != s.Status {
		srv.LastChanged, p.changed = s.Updated, s.Updated
		close(p.watchers)
		p.watchers = make(chan struct{})
	}
	if foreign {
		p.counts.Accepted++
		if s.Hostname != p.cfg.Name && s.Status != ServiceDraining {
			p.tell(s)
		}
	}
}

// tell queues one message. The caller holds the lock.
func (p *Peer) tell(s Service) {
	b, err := json.Marshal(s)
	if err != nil || len(b)+1 > maxMessage {
		return // Sidecar's queue would be stuck; the tests look at what arrives
	}
	p.queue = append(p.queue, &outgoing{msg: append([]byte{tUser}, b...), left: 4})
}

// announce tells a change of this host several times. The caller holds the lock.
func (p *Peer) announce(s Service, times int) {
	p.tell(s)
	if times > 1 {
		p.later(p.cfg.ResendEvery, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			s.Updated = s.Updated.Add(resendStep)
			p.announce(s, times-1)
		})
	}
}

// refresh repeats the services of this host that are alive.
func (p *Peer) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.own {
		if s := p.get(p.cfg.Name, id); s != nil && s.Status == ServiceAlive {
			r := *s
			r.Updated = time.Now().UTC()
			p.add(r, false)
			p.tell(r)
		}
	}
}

// sweep ends what has not been heard of, forgets old tombstones, and looks once
// more at what runs on this host, whatever others say of it.
func (p *Peer) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for host, srv := range p.servers {
		for id, s := range srv.Services {
			life := p.cfg.AliveFor
			if s.Status == ServiceDraining {
				life = p.cfg.DrainingFor
			}
			t := *s
			switch {
			case s.Status == ServiceTombstone && now.Sub(s.Updated) > p.cfg.TombstoneFor:
				delete(srv.Services, id)
			case host == p.cfg.Name && p.own[id] && s.Status == ServiceTombstone:
				t.Status, t.Updated = ServiceAlive, now.UTC()
				p.add(t, false)
				p.announce(t, sendChanges)
			case host != p.cfg.Name && s.Status != ServiceTombstone && now.Sub(s.Updated) > life:
				t.Status, t.Updated = ServiceTombstone, s.Updated.Add(time.Second)
				p.add(t, false)
				p.announce(t, sendTombstones)
			}
		}
	}
}

// expireServer ends the services of a host that has left or is dead. The caller
// holds the lock.
func (p *Peer) expireServer(host string) {
	srv := p.servers[host]
	if srv == nil {
		return
	}
	for _, s := range srv.Services {
		if s.Status != ServiceTombstone {
			t := *s
			t.Status, t.Updated = ServiceTombstone, time.Now().UTC()
			p.add(t, false)
			p.announce(t, sendTombstones)
		}
	}
}

func (p *Peer) heardService(b []byte) error {
	var s Service
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Messages++
	p.add(s, true)
	return nil
}

func (p *Peer) heardState(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	var remote state
	if err := json.Unmarshal(b, &remote); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.States++
	for _, srv := range remote.Servers {
		for _, s := range srv.Services {
			p.add(*s, true)
		}
	}
	return nil
}

func (p *Peer) stateJSON() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := json.Marshal(state{p.servers, p.changed, p.cfg.Cluster, p.cfg.Name})
	if err != nil {
		return nil // of times and strings: never fails
	}
	return b
}

// handler is as much of Sidecar's API as other programs follow it by.
func (p *Peer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/state.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.stateJSON()) })
	mux.HandleFunc("POST /api/services/{id}/drain", func(w http.ResponseWriter, r *http.Request) {
		if !p.Drain(r.PathValue("id")) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("GET /api/watch", func(w http.ResponseWriter, r *http.Request) {
		for {
			p.mu.Lock()
			changed := p.watchers
			p.mu.Unlock()
			if _, err := w.Write(p.stateJSON()); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-changed:
			}
		}
	})
	return mux
}
