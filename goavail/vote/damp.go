package vote

import (
	"math"
	"time"
)

// Damping holds back targets that come and go, as BGP does: each fall costs a
// penalty which decays by half in HalfLife. Above Suppress the target is not put
// back in service until its penalty is below Reuse. It is still taken out when it
// falls.
type Damping struct {
	HalfLife time.Duration // default 10 min; negative switches damping off
	Suppress float64       // default 2500: about three falls within a few minutes
	Reuse    float64       // default 1000
}

const (
	fallPenalty = 1000 // RFC 2439 uses the same figure in its examples
	maxPenalty  = 6000 // bounds how long a target can be held back: 2.6 half-lives down to 1000
)

// Penalty is one target's. The zero value is that of a target that never fell.
type Penalty struct {
	Points     float64   `json:"points"`
	At         time.Time `json:"at"` // when Points was right
	Last       Verdict   `json:"last"`
	Suppressed bool      `json:"suppressed"`
}

func (d Damping) withDefaults() Damping {
	if d.HalfLife == 0 {
		d.HalfLife = 10 * time.Minute
	}
	if d.Suppress <= 0 {
		d.Suppress = 2500
	}
	if d.Reuse <= 0 || d.Reuse >= d.Suppress {
		d.Reuse = min(1000, d.Suppress/2)
	}
	return d
}

// Note returns the penalty after the majority's verdict now.
func (d Damping) Note(p Penalty, v Verdict, now time.Time) Penalty {
	d = d.withDefaults()
	if d.HalfLife < 0 {
		return Penalty{}
	}
	p.Points = d.points(p, now)
	p.At = now
	if v == Down && p.Last == Up {
		p.Points = min(p.Points+fallPenalty, maxPenalty)
	}
	if v != Unknown {
		p.Last = v
	}
	switch {
	case p.Points >= d.Suppress:
		p.Suppressed = true
	case p.Points < d.Reuse:
		p.Suppressed = false
	}
	return p
}

// Until is when a penalty that suppresses will be low enough, if nothing happens.
func (d Damping) Until(p Penalty) time.Time {
	d = d.withDefaults()
	if !p.Suppressed || d.HalfLife < 0 || p.Points <= d.Reuse {
		return p.At
	}
	return p.At.Add(time.Duration(math.Log2(p.Points/d.Reuse) * float64(d.HalfLife)))
}

func (d Damping) points(p Penalty, now time.Time) float64 {
	age := now.Sub(p.At)
	if p.Points == 0 || age <= 0 {
		return p.Points
	}
	points := p.Points * math.Exp2(-float64(age)/float64(d.HalfLife))
	if points < 1 {
		return 0
	}
	return points
}
