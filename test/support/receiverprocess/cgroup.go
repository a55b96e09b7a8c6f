package receiverprocess

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryFiles are the names of one thing in the two versions of cgroups.
type memoryFiles struct{ root, limit, peak string }

var cgroups = []memoryFiles{
	{"/sys/fs/cgroup", "memory.max", "memory.peak"},
	{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"},
}

// Confine has the receiver run in a cgroup of its own with a limit of memory in bytes, as its container does: the kernel kills it
// when it takes more. It returns false where this process may make none. Call it before Start.
func (p *Pod) Confine(limit int64) bool {
	p.t.Helper()
	for _, files := range cgroups {
		if _, err := os.Stat(filepath.Join(files.root, "cgroup.procs")); err != nil {
			continue
		}
		dir, err := os.MkdirTemp(files.root, "heymarket-test-")
		if err != nil {
			continue
		}
		p.t.Cleanup(func() { _ = os.Remove(dir) })
		files.root = dir
		if os.WriteFile(filepath.Join(dir, files.limit), strconv.AppendInt(nil, limit, 10), 0) == nil {
			p.cgroup = files
			p.Env = append(p.Env, "GOMEMLIMIT="+strconv.FormatInt(limit/10*9, 10)) // as the operator sets it for a container
			return true
		}
	}
	return false
}

// ConfinedPeak is the most memory that the cgroup has had, in bytes, sockets and files included as far as the kernel counts them; 0 if
// it does not report it.
func (p *Pod) ConfinedPeak() int64 {
	text, _ := os.ReadFile(filepath.Join(p.cgroup.root, p.cgroup.peak))
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// confined returns the command that starts a program within the cgroup.
func (p *Pod) confined(program string, args []string) (string, []string) {
	if p.cgroup.root == "" {
		return program, args
	}
	enter := `echo $$ >"$0"/cgroup.procs && exec "$@"`
	return "/bin/sh", append([]string{"-c", enter, p.cgroup.root, program}, args...)
}
