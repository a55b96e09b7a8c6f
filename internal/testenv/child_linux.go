package testenv

import (
	"os/exec"
	"syscall"
)

// EndWithTest has a process that is not started yet end with this one, also when this one is killed and no cleanup runs.
func EndWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
