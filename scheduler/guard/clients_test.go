package guard

import (
	"testing"

	"github.com/pancake-stack/pancake"
)

func TestClientsAreBoundedByAddress(t *testing.T) {
	c := clients{busy: map[string]int{}}
	for range maxCalls {
		if err := c.enter("10.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.enter("10.0.0.1"); pancake.KindOf(err) != pancake.Unavailable {
		t.Errorf("one too many: %v", err)
	}
	if err := c.enter("10.0.0.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
	c.leave("10.0.0.1")
	if err := c.enter("10.0.0.1"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	for range maxCalls {
		c.leave("10.0.0.1")
	}
	c.leave("10.0.0.2")
	if len(c.busy) != 0 {
		t.Errorf("kept: %v", c.busy)
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]string{"10.0.0.1:7099": "10.0.0.1-7099", "[::1]:7099": "1--7099", "one": "one", "s@x_y.z": "s@x_y.z"} {
		if got := validID(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
