package executor

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pancake-stack/pancake"
)

// metrics are what the executor counts. It is a Collector: the tasks by state
// are counted when asked, so that they cannot drift.
type metrics struct {
	table        *table
	tasks        *prometheus.Desc
	launches     prometheus.Counter
	start        prometheus.Histogram
	pullFailures prometheus.Counter
}

func newMetrics(t *table) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pancake_executor_" + name, Help: help})
	}
	return &metrics{
		table:        t,
		tasks:        prometheus.NewDesc("pancake_executor_tasks", "Tasks held, by state.", []string{"state"}, nil),
		launches:     counter("launches_total", "Tasks launched."),
		pullFailures: counter("pull_failures_total", "Images that could not be pulled."),
		start: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pancake_executor_start_seconds", Help: "From launch to running, in seconds.",
			Buckets: []float64{.1, .2, .3, .5, .75, 1, 2, 5, 10, 30, 60, 300},
		}),
	}
}

// register makes the metrics visible until the returned function is called.
func (m *metrics) register(r prometheus.Registerer) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	if err := r.Register(m); err != nil {
		return nil, fmt.Errorf("executor metrics: %w", err)
	}
	return func() { r.Unregister(m) }, nil
}

// reported notes that a task went from one state to another.
func (m *metrics) reported(from, to pancake.TaskState, accepted time.Time) {
	if to == pancake.TaskRunning && from != pancake.TaskRunning {
		m.start.Observe(time.Since(accepted).Seconds())
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.tasks
	m.launches.Describe(ch)
	m.start.Describe(ch)
	m.pullFailures.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	states := map[pancake.TaskState]int{}
	for _, t := range m.table.all() {
		last, _ := t.published()
		states[last.State]++
	}
	for state, count := range states {
		ch <- prometheus.MustNewConstMetric(m.tasks, prometheus.GaugeValue, float64(count), string(state))
	}
	m.launches.Collect(ch)
	m.start.Collect(ch)
	m.pullFailures.Collect(ch)
}
