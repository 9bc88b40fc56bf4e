package goavail

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/pancake-stack/pancake/goavail/client"
	"github.com/pancake-stack/pancake/goavail/dns"
	"github.com/pancake-stack/pancake/goavail/vote"
)

// Status says what the agent knows; with answers, it also asks what DNS answers now.
func (a *Agent) Status(ctx context.Context, answers bool) client.Status {
	now := time.Now()
	leader, places := a.elector.Leader(), a.gossip.Places()
	a.mu.Lock()
	s := client.Status{
		Place: a.cfg.Place, Cluster: a.cfg.Cluster, Config: a.hash, DryRun: a.dryRun(now), Quorum: vote.Quorum(len(a.cfg.Places)), Now: now.UTC(),
		Writer:   client.Writer{Place: leader.Place, Epoch: leader.Epoch, Me: !leader.Until.IsZero(), Until: utc(leader.Until)},
		Provider: client.ProviderStatus{Name: a.cfg.Provider.Capabilities().Name, Read: utc(a.act.read), Error: a.act.err, Retry: utc(a.act.retry)},
	}
	if ok, why := a.canary.Vouches(len(a.canaries), time.Time{}); !ok {
		s.Abstains = why
	}
	for _, p := range a.cfg.Places {
		c := client.Place{Name: p.Name, Region: p.Region, Provider: p.Provider}
		if seen, ok := places[p.Name]; ok {
			c.Alive, c.Address, c.Heard = seen.Alive, seen.Address, utc(seen.Heard)
		}
		if id, ok := a.configs[p.Name]; ok {
			c.Config = fmt.Sprintf("%016x", id)
		}
		if p.Name == a.cfg.Place {
			c.Config = a.hash
		}
		if b := a.providers.Ballot(p.Name, provider, now); b.Verdict == vote.Down {
			c.Trouble = b.Why
		}
		s.Places = append(s.Places, c)
	}
	s.Targets, s.Sets = a.targetStatus(now), a.setStatus(a.decide(now))
	for _, o := range a.book.All() {
		if o.Standing(now) && o.Kind != vote.Pardon {
			s.Orders = append(s.Orders, order(o))
		}
	}
	a.mu.Unlock()
	if answers {
		a.answers(ctx, s.Sets)
	}
	return s
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Round(0) // without the reading of the monotonic clock
}

func order(o vote.Order) client.Order {
	return client.Order{Kind: o.Kind, About: o.About, By: o.By, Why: o.Why, At: o.At, Until: o.Until, Place: o.Origin, Over: o.Over}
}

// targetStatus is the matrix of targets and places. a.mu is held.
func (a *Agent) targetStatus(now time.Time) []client.Target {
	var out []client.Target
	for name, w := range a.targets {
		o := a.board.Opinion(name, now)
		t := client.Target{
			Name: name, Address: w.Check.Address, Check: strings.TrimSuffix(w.Check.Kind+" :"+strconv.Itoa(w.Check.Port), " :0"),
			Verdict: o.Verdict.String(), Up: o.Up, Down: o.Down, Unknown: o.Unknown,
		}
		for _, place := range a.board.Places() {
			b := a.board.Ballot(place, name, now)
			t.Votes = append(t.Votes, client.Vote{Place: place, Verdict: b.Verdict.String(), Why: b.Why})
		}
		if p := a.penalties[name]; p.Suppressed {
			t.Damped = utc(a.cfg.Rules.Damping.Until(p))
		}
		if given, ok := a.book.Target(name, now); ok {
			c := order(given)
			t.Order = &c
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y client.Target) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// setStatus shows what was decided. a.mu is held.
func (a *Agent) setStatus(plans []vote.Plan) []client.Set {
	var out []client.Set
	for i, r := range a.records {
		live := a.live[r.Key]
		s := client.Set{Name: r.Name, Type: r.Type, Set: r.Set, Live: live.Values(), Read: utc(a.act.read)}
		if len(plans) == len(a.records) {
			s.Panic, s.Held = plans[i].Panic, plans[i].Held
			for _, c := range plans[i].Choices {
				s.Members = append(s.Members, client.Member{Value: c.Value, Target: c.Target, In: c.In, Want: c.Want, Rule: string(c.Rule), Reason: c.Reason})
			}
		}
		out = append(out, s)
	}
	return out
}

// History returns the newest entries, newest last; 0 is all.
func (a *Agent) History(limit int) []client.Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := 0
	if limit > 0 {
		from = max(0, len(a.history)-limit)
	}
	return slices.Clone(a.history[from:])
}

// readAgain is how old the live records may be that a plan is made from, as a part of
// ReadEvery: who asks for plans all the time must not use up the provider's rate limit,
// which the writer needs.
const readAgain = 6

// Plan reads the live records, unless that was done just now, and returns what would be
// changed. It fails with the provider's error.
func (a *Agent) Plan(ctx context.Context) (client.Plan, error) {
	if err := a.refresh(ctx); err != nil {
		return client.Plan{}, err
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	plans := a.decide(now)
	p := client.Plan{DryRun: a.dryRun(now), Sets: a.setStatus(plans), Diff: []string{}}
	for _, j := range a.work(plans, now) {
		p.Diff = append(p.Diff, diff(j.entry)...)
	}
	for _, r := range a.records {
		for _, m := range a.live[r.Key].Members {
			if m.Owner != a.cfg.Owner {
				p.Foreign = append(p.Foreign, r.Key.String()+" "+m.Value)
			}
		}
	}
	return p, nil
}

// refresh reads the live records for a plan, one after the other: the next one finds them read.
func (a *Agent) refresh(ctx context.Context) error {
	a.planning.Lock()
	defer a.planning.Unlock()
	a.mu.Lock()
	fresh := time.Since(a.act.read) < a.cfg.ReadEvery/readAgain
	a.mu.Unlock()
	if fresh || ctx.Err() != nil {
		return ctx.Err()
	}
	drifts, err := a.readLimited(ctx)
	for _, d := range drifts {
		a.note(d)
	}
	return err
}

// Check finds out whether the provider can be used for all records. The error says all
// that is wrong.
func (a *Agent) Check(ctx context.Context) error {
	a.mu.Lock()
	keys := a.keys()
	a.mu.Unlock()
	return a.cfg.Provider.Check(ctx, keys)
}

// answerLimit bounds one question to a resolver.
const answerLimit = 2 * time.Second

// answers asks resolvers for what is in the sets.
func (a *Agent) answers(ctx context.Context, sets []client.Set) {
	resolvers := a.resolvers()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range sets {
		s := &sets[i]
		if _, ok := mdns.StringToType[s.Type]; !ok {
			continue // no record
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answer, err := ask(ctx, resolvers, s.Name, s.Type)
			if s.Answer = answer; err != nil {
				s.AnswerError = err.Error()
			}
		})
	}
	wg.Wait()
}

func (a *Agent) resolvers() []string {
	out := slices.Clone(a.cfg.Resolvers)
	if len(out) == 0 {
		if c, err := mdns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
			out = c.Servers
		}
	}
	for i, r := range out {
		if _, _, err := net.SplitHostPort(r); err != nil {
			out[i] = net.JoinHostPort(r, "53")
		}
	}
	return out
}

// ask asks one resolver after the other until one answers.
func ask(ctx context.Context, resolvers []string, name, kind string) (values []string, err error) {
	err = fmt.Errorf("no resolver is known; configure some")
	for _, r := range resolvers {
		q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[kind])
		q.SetEdns0(1232, false)
		c := mdns.Client{Timeout: answerLimit}
		var resp *mdns.Msg
		if resp, _, err = c.ExchangeContext(ctx, q, r); err != nil {
			continue
		}
		if resp.Truncated {
			c.Net = "tcp"
			if resp, _, err = c.ExchangeContext(ctx, q, r); err != nil {
				continue
			}
		}
		if resp.Rcode != mdns.RcodeSuccess {
			err = fmt.Errorf("%s answers %s", r, mdns.RcodeToString[resp.Rcode])
			continue
		}
		for _, rr := range resp.Answer {
			if rr.Header().Rrtype == mdns.StringToType[kind] {
				values = append(values, dns.Clean(strings.TrimPrefix(rr.String(), rr.Header().String())))
			}
		}
		slices.Sort(values)
		return values, nil
	}
	return nil, err
}
