//go:build !linux

package child

import "os/exec"

// dieWithParent does nothing where the kernel cannot: the next start finds the
// port taken and says so.
func dieWithParent(*exec.Cmd) {}
