package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pancake-stack/pancake"
)

// renewal runs a renewer whose CA answers with the errors in turn, then well.
type renewal struct {
	src   *Source
	ca    *CA
	fails []error
	log   bytes.Buffer

	mu    sync.Mutex
	tries []time.Duration // since the start
	saved int
}

// seen returns when the CA was asked, and how often a leaf was saved.
func (r *renewal) seen() ([]time.Duration, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tries), r.saved
}

func (r *renewal) run(t *testing.T, answer func(csr []byte) (Issued, error)) (*Renewer, context.CancelFunc) {
	t.Helper()
	start := time.Now()
	if answer == nil {
		answer = func(csr []byte) (Issued, error) {
			c, err := r.ca.Issue(csr, r.src.Identity(), IssueOptions{}, time.Now())
			if err != nil {
				return Issued{}, err
			}
			return Issued{Cert: c.Raw, CAs: [][]byte{r.ca.Cert.Raw}}, nil
		}
	}
	rn := must[*Renewer](t)(NewRenewer(RenewerConfig{
		Source: r.src, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		Save: func(Leaf, Issued) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.saved++
			return nil
		},
		Renew: func(_ context.Context, csr []byte) (Issued, error) {
			r.mu.Lock()
			r.tries = append(r.tries, time.Since(start))
			r.mu.Unlock()
			if len(r.fails) > 0 {
				err := r.fails[0]
				r.fails = r.fails[1:]
				return Issued{}, err
			}
			return answer(csr)
		},
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rn.Run(ctx) }()
	return rn, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func newRenewal(t *testing.T) *renewal {
	ca := newCA(t, "c1", time.Now())
	return &renewal{ca: ca, src: source(t, leaf(t, ca, id(Agent, "a"), IssueOptions{}, time.Now()))}
}

func TestRenewsAtTwoThirds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t)
		first := r.src.Leaf()
		_, stop := r.run(t, nil)
		time.Sleep(14*time.Hour + 47*time.Minute)
		synctest.Wait()
		if tries, _ := r.seen(); len(tries) != 0 {
			t.Fatalf("renewed early: %v", tries)
		}
		time.Sleep(2*time.Hour + 26*time.Minute) // 16 h ± 1.2 h
		synctest.Wait()
		if tries, saved := r.seen(); len(tries) != 1 || saved != 1 || r.src.Leaf().Cert.Equal(first.Cert) || r.src.Leaf().Key.Equal(first.Key) {
			t.Fatalf("tries %v, saved %d", tries, saved)
		}
		time.Sleep(10 * 24 * time.Hour)
		synctest.Wait()
		tries, _ := r.seen()
		if _, err := r.src.Leaf().Check(time.Now()); err != nil || len(tries) < 14 || len(tries) > 18 {
			t.Errorf("after ten days: %v, %d renewals", err, len(tries))
		}
		stop()
	})
}

func TestRenewsAgainAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t)
		for range 75 { // about 5 min apart: until less than a sixth of the life is left
			r.fails = append(r.fails, pancake.Errorf(pancake.Unavailable, "no scheduler answers"))
		}
		_, stop := r.run(t, nil)
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		stop()
		if r.saved == 0 {
			t.Fatalf("not renewed after %d tries", len(r.tries))
		}
		for i := 1; i < len(r.tries)-1; i++ {
			if gap := r.tries[i] - r.tries[i-1]; gap < 2*time.Second || gap > 8*time.Minute {
				t.Errorf("%s between tries %d and %d", gap, i, i+1)
			}
		}
		info, warn := strings.Index(r.log.String(), "level=INFO"), strings.Index(r.log.String(), "level=WARN")
		if info < 0 || warn < info || !strings.Contains(r.log.String(), "no scheduler answers") {
			t.Errorf("the log does not go from INFO to WARN:\n%s", r.log.String())
		}
	})
}

func TestRenewsOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRenewal(t)
		rn, stop := r.run(t, nil)
		rn.Now()
		rn.Now()
		synctest.Wait()
		if _, saved := r.seen(); saved < 1 || saved > 2 {
			t.Errorf("saved %d", saved)
		}
		stop()
	})
}

func TestRenewerRefusesBadAnswers(t *testing.T) {
	for name, answer := range map[string]func(r *renewal, csr []byte) (Issued, error){
		"garbage": func(*renewal, []byte) (Issued, error) { return Issued{Cert: []byte("x"), CAs: [][]byte{{1}}}, nil },
		"another identity": func(r *renewal, csr []byte) (Issued, error) {
			c, err := r.ca.Issue(csr, id(Agent, "b"), IssueOptions{}, time.Now())
			return Issued{c.Raw, [][]byte{r.ca.Cert.Raw}, nil}, err
		},
		"another key": func(r *renewal, _ []byte) (Issued, error) {
			return Issued{leaf(t, r.ca, id(Agent, "a"), IssueOptions{}, time.Now()).Cert.Raw, [][]byte{r.ca.Cert.Raw}, nil}, nil
		},
		"a CA that is not trusted": func(r *renewal, csr []byte) (Issued, error) {
			other := newCA(t, "c1", time.Now())
			c, err := other.Issue(csr, id(Agent, "a"), IssueOptions{}, time.Now())
			return Issued{c.Raw, [][]byte{r.ca.Cert.Raw}, nil}, err
		},
		"a clock an hour ahead": func(r *renewal, csr []byte) (Issued, error) {
			c, err := r.ca.Issue(csr, id(Agent, "a"), IssueOptions{}, time.Now().Add(time.Hour))
			return Issued{c.Raw, [][]byte{r.ca.Cert.Raw}, nil}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRenewal(t)
				first := r.src.Leaf()
				_, stop := r.run(t, func(csr []byte) (Issued, error) { return answer(r, csr) })
				time.Sleep(20 * time.Hour)
				synctest.Wait()
				stop()
				if len(r.tries) < 2 || r.saved != 0 || !r.src.Leaf().Cert.Equal(first.Cert) {
					t.Errorf("%d tries, saved %d: the bad certificate is in use", len(r.tries), r.saved)
				}
			})
		})
	}
}
