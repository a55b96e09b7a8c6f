package testenv

import (
	"os/exec"
	"syscall"
)

// EndWithTest makes a process that has not been started yet end with this one, even if this one is killed and no cleanup
// runs.
func EndWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
