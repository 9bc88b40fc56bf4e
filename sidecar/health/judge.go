package health

import (
	"fmt"

	"github.com/pancake-stack/pancake"
)

// judge turns the results of checks into a status: rise passes in a row make a service
// Alive, fall failures in a row make it Sick. Before the first of the two it has no opinion.
type judge struct {
	rise, fall    int
	passes, fails int
	decided       bool
	status        pancake.ServiceStatus
}

// take counts one result, nil for a pass. It returns the status and why it is not
// entirely good; ok is false while there is no opinion.
func (j *judge) take(err error) (status pancake.ServiceStatus, note string, ok bool) {
	if err == nil {
		j.passes, j.fails = j.passes+1, 0
	} else {
		j.passes, j.fails = 0, j.fails+1
		note = shorten(err.Error())
	}
	switch {
	case j.passes >= j.rise:
		j.decided, j.status = true, pancake.Alive
	case j.fails >= j.fall:
		j.decided, j.status = true, pancake.Sick
	case err == nil && j.decided && j.status == pancake.Sick:
		note = fmt.Sprintf("it has passed %d of %d checks that it has to", j.passes, j.rise)
	}
	return j.status, note, j.decided
}

// well reports whether the service is Alive.
func (j *judge) well() bool { return j.decided && j.status == pancake.Alive }
