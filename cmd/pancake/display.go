package main

import (
	"fmt"
	"strings"
	"time"
)

// display shows boards one after another, as suits stdout.
type display struct {
	env    *environment
	start  time.Time
	screen *screen           // nil when stdout cannot be redrawn
	told   map[string]string // facts already printed, by key
	down   string            // why the scheduler does not answer, "" when it does
	last   shown
}

func newDisplay(env *environment) *display {
	d := &display{env: env, start: env.now(), told: map[string]string{}}
	if env.live() {
		d.screen = &screen{out: env.stdout, size: func() (int, int) { return env.terminal(env.stdout) }}
	}
	return d
}

// shown is what a display can show.
type shown interface {
	table(now time.Time, p palette) []string
	facts(now time.Time) []fact
}

// show redraws b or prints what is new on it. With -o json it is silent.
func (d *display) show(b shown) {
	d.last = b
	switch {
	case d.env.json():
	case d.screen != nil:
		lines := b.table(d.env.now(), d.env.paint())
		if d.down != "" {
			lines = append(lines, clean(d.down))
		}
		d.screen.draw(lines)
	default:
		for _, f := range b.facts(d.env.now()) {
			if d.told[f.key] != f.text {
				d.told[f.key] = f.text
				d.env.printf("%6s  %s\n", d.elapsed(), clean(f.text))
			}
		}
	}
}

// silent tells that the scheduler stopped answering or, with nil, that it is back.
func (d *display) silent(err error) {
	d.down = ""
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		d.down = first + "; waiting for it to come back"
	}
	switch {
	case d.screen != nil && d.last != nil:
		d.show(d.last)
	case d.down != "":
		d.env.notef("%s", d.down)
	default:
		d.env.notef("the scheduler answers again")
	}
}

// elapsed is the time since the display began, as 1.2s or 2m5s.
func (d *display) elapsed() string {
	took := d.env.now().Sub(d.start)
	if took < time.Minute {
		return fmt.Sprintf("%.1fs", took.Seconds())
	}
	return took.Round(time.Second).String()
}
