// Package uses mentions the clock and the dice in the ways that are to be found.
package uses

import (
	"math/rand/v2"
	clock "time"
)

type now struct{ Now func() }

func uses(d clock.Duration) {
	f := clock.Now // mentioned, not called
	_ = f
	_ = rand.IntN(6)
	clock.Sleep(d)
	time := now{} // a variable of the same name as the package
	time.Now()
}
