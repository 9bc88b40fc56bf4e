package identity

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/pancake-stack/pancake"
)

// When a leaf is renewed.
const (
	renewAt   = 2.0 / 3 // of its life
	jitter    = 0.05    // of its life, to both sides, so that parts started together do not renew together
	warnUnder = 1.0 / 6 // of its life
)

// Between attempts that fail.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
	renewLimit = 30 * time.Second // for one attempt
)

// RenewerConfig says how a Renewer works.
type RenewerConfig struct {
	// Source gets the renewed leaf. Required.
	Source *Source
	// Renew has a CSR, in DER, signed. Required.
	Renew func(ctx context.Context, csr []byte) (Issued, error)
	// Save, if set, keeps what was issued before it is used, as Files.Save. A leaf
	// that cannot be saved is used all the same, and a warning logged.
	Save func(Leaf, Issued) error
	// Done, if set, hears of every attempt, for metrics; err is nil when it worked.
	Done func(err error)
	// Log defaults to slog.Default.
	Log *slog.Logger
}

// Renewer keeps a Source's leaf from expiring: it renews at two thirds of the
// leaf's life, each time with a new key.
type Renewer struct {
	cfg RenewerConfig
	log *slog.Logger
	now chan struct{}
}

// NewRenewer fails with Invalid when something required is missing.
func NewRenewer(cfg RenewerConfig) (*Renewer, error) {
	if cfg.Source == nil || cfg.Renew == nil {
		return nil, pancake.Errorf(pancake.Invalid, "a renewer needs a source and a way to renew")
	}
	return &Renewer{cfg: cfg, log: cmp.Or(cfg.Log, slog.Default()), now: make(chan struct{}, 1)}, nil
}

// Now makes Run renew at once, for example because the CA is being replaced.
func (r *Renewer) Now() {
	select {
	case r.now <- struct{}{}:
	default: // it is about to anyway
	}
}

// Run renews until ctx ends. Attempts that fail are repeated, from 5 s to about 5 min apart;
// the leaf in use stays until it is replaced, expired or not.
func (r *Renewer) Run(ctx context.Context) error {
	for {
		if err := r.wait(ctx, until(r.cfg.Source.Leaf(), time.Now(), rand.Float64())); err != nil {
			return err
		}
		if err := r.renew(ctx); err != nil {
			return err
		}
	}
}

// until is how long after now a leaf is to be renewed. The dice, from 0 to 1,
// choose within the jitter.
func until(l Leaf, now time.Time, dice float64) time.Duration {
	begin := l.Cert.NotBefore.Add(Backdate)
	life := l.Cert.NotAfter.Sub(begin)
	at := begin.Add(time.Duration(float64(life) * (renewAt + jitter*(2*dice-1))))
	return max(0, at.Sub(now))
}

func (r *Renewer) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.now:
	case <-timer.C:
	}
	return nil
}

// renew tries until it works or ctx ends.
func (r *Renewer) renew(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = firstRetry, lastRetry
	for {
		err := r.try(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r.cfg.Done != nil {
			r.cfg.Done(err)
		}
		if err == nil {
			return nil
		}
		wait := pause.NextBackOff()
		cert := r.cfg.Source.Leaf().Cert
		left, life := time.Until(cert.NotAfter), cert.NotAfter.Sub(cert.NotBefore)
		level := slog.LevelInfo
		if left < time.Duration(float64(life)*warnUnder) {
			level = slog.LevelWarn
		}
		r.log.Log(ctx, level, "certificate not renewed", "identity", r.cfg.Source.Identity().String(),
			"err", err, "valid_for", max(0, left).Round(time.Second).String(), "next_try", wait.Round(time.Second).String())
		if err := r.wait(ctx, wait); err != nil {
			return err
		}
	}
}

func (r *Renewer) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	key, err := NewKey()
	if err != nil {
		return err
	}
	csr, err := NewCSR(key)
	if err != nil {
		return err
	}
	issued, err := r.cfg.Renew(ctx, csr)
	if err != nil {
		return err
	}
	leaf, err := NewLeaf(key, issued, time.Now())
	if err != nil {
		return err
	}
	if was, is := r.cfg.Source.Identity(), leaf.Identity(); was != is {
		return pancake.Errorf(pancake.Internal, "asked for a certificate of %s and got one of %s", was, is)
	}
	if r.cfg.Save != nil {
		if err := r.cfg.Save(leaf, issued); err != nil {
			r.log.WarnContext(ctx, "renewed certificate not saved; a restart goes back to the old one", "err", err)
		}
	}
	if err := r.cfg.Source.Set(leaf); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "certificate renewed", "identity", leaf.Identity().String(), "valid_until", leaf.Cert.NotAfter)
	return nil
}
