package scheduler

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake/scheduler/api"
)

// metrics are what a scheduler counts. The gauges are read from the state at
// each scrape, and are missing while the scheduler does not lead.
type metrics struct {
	registry *prometheus.Registry
	turns    prometheus.Counter
	plan     prometheus.Histogram
	commit   prometheus.Histogram
}

func newMetrics(s *Scheduler) *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 9) // 0.1 ms to 6.5 s
	m := &metrics{
		registry: prometheus.NewRegistry(),
		turns:    prometheus.NewCounter(prometheus.CounterOpts{Name: "pancake_scheduler_turns_total", Help: "Turns that changed something."}),
		plan: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pancake_scheduler_plan_seconds", Help: "Time to decide, per turn that changed something.", Buckets: buckets,
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pancake_scheduler_commit_seconds", Help: "Time to store a turn's changes in etcd.", Buckets: buckets,
		}),
	}
	m.registry.MustRegister(m.turns, m.plan, m.commit, gauges{
		scheduler: s,
		leads:     prometheus.NewDesc("pancake_scheduler_leads", "1 if this scheduler leads.", nil, nil),
		tasks:     prometheus.NewDesc("pancake_scheduler_tasks", "Live tasks.", []string{"state"}, nil),
		agents:    prometheus.NewDesc("pancake_scheduler_agents", "Agents.", []string{"state"}, nil),
		unplaced:  prometheus.NewDesc("pancake_scheduler_unplaced", "Instances that wait for an agent or for their back-off.", nil, nil),
	})
	return m
}

// turn counts one turn.
func (m *metrics) turn(plan, commit time.Duration) {
	m.turns.Inc()
	m.plan.Observe(plan.Seconds())
	m.commit.Observe(commit.Seconds())
}

type gauges struct {
	scheduler                      *Scheduler
	leads, tasks, agents, unplaced *prometheus.Desc
}

func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.leads, g.tasks, g.agents, g.unplaced} {
		ch <- d
	}
}

func (g gauges) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	l := g.scheduler.current.Load()
	if l == nil {
		send(g.leads, 0)
		return
	}
	send(g.leads, 1)
	tasks, agents, unplaced := map[string]int{}, map[string]int{}, 0
	l.Read(func(v api.View) {
		for _, t := range v.State.Tasks {
			tasks[string(t.Status.State)]++
		}
		for _, a := range v.State.Agents {
			agents[string(a.State)]++
		}
		for _, u := range v.Unplaced {
			unplaced += len(u)
		}
	})
	for s, n := range tasks {
		send(g.tasks, n, s)
	}
	for s, n := range agents {
		send(g.agents, n, s)
	}
	send(g.unplaced, unplaced)
}
