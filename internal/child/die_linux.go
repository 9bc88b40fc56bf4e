package child

import (
	"os/exec"
	"syscall"
)

// dieWithParent asks the kernel to end the program when its parent does, even by SIGKILL.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
