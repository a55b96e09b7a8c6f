package testenv

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// EndWithTest makes a process that has not been started yet end with this one, even if this one is killed and no cleanup
// runs.
func EndWithTest(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// AwaitEnd waits until a server ends whose test was killed. A server that still runs after a minute is killed, and the test fails.
func AwaitEnd(t testing.TB, server int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); running(server); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(server, syscall.SIGKILL)
			t.Errorf("server %d outlives the test that started it", server)
			return
		}
	}
}

// running reports whether a process runs: one that has ended but has not been waited for does not.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
