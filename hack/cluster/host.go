package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// packages are the Debian packages that a running cluster takes, by a program that shows that each is there.
var packages = map[string]string{
	"containerd":              "containerd",
	"ctr":                     "containerd",
	"runc":                    "runc",
	"/usr/lib/cni/ptp":        "containernetworking-plugins",
	"/usr/lib/cni/host-local": "containernetworking-plugins",
	"nft":                     "nftables",
	"ip":                      "iproute2",
	"mount":                   "mount",
}

const otherCluster = "the README's section \"On a cluster that you have\" says how to do without"

// checkHost returns the reasons why a cluster cannot run here.
func checkHost() error {
	switch {
	case runtime.GOOS != "linux":
		return fmt.Errorf("a cluster of this kind runs on Linux alone, and this is %s; %s", runtime.GOOS, otherCluster)
	case os.Geteuid() != 0:
		return fmt.Errorf("a cluster takes root, to make namespaces and mounts; run it as root or by sudo, or %s", otherCluster)
	case !exists("/sys/fs/cgroup"):
		return fmt.Errorf("no cgroups are mounted at /sys/fs/cgroup, and containers take them; %s", otherCluster)
	}
	return nil
}

// install installs those packages whose program is missing.
func install(ctx context.Context, wanted map[string]string) error {
	missing := map[string]bool{}
	for program, name := range wanted {
		if find(program) == "" {
			missing[name] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(missing))
	list := strings.Join(names, " ")
	if find("apt-get") == "" {
		return fmt.Errorf("this machine lacks %s and has no apt-get; install them, or %s", list, otherCluster)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("this machine lacks %s; run `apt-get install %s` as root", list, list)
	}
	p := newProgress("apt-get")
	defer p.close()
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, names...)} {
		p.step("%s %s", args[0], list)
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		// In run level 1 a package's scripts start no service of their own: only the driver starts processes here.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s\n`apt-get %s` failed (%w); install %s by hand and run the same command again", lastLines(string(out), 10), strings.Join(args, " "), err, list)
		}
	}
	for program, name := range wanted {
		if find(program) == "" {
			return fmt.Errorf("package %s is installed and yet there is no %s; install it by hand and run the same command again", name, program)
		}
	}
	return nil
}

// find is the path of a program, or "" when there is none. Not every user's PATH has the directories of the superuser.
func find(program string) string {
	if strings.HasPrefix(program, "/") {
		if exists(program) {
			return program
		}
		return ""
	}
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path := filepath.Join(dir, program); exists(path) {
			return path
		}
	}
	return ""
}

// command runs a program of the host and puts what it said into the error.
func command(ctx context.Context, name string, args ...string) (string, error) {
	path := find(name)
	if path == "" {
		return "", fmt.Errorf("there is no program %s on this machine", name)
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(lastLines(string(out), 5)))
	}
	return string(out), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// cgroupHierarchies are the roots under which a cluster has a cgroup of its own: each controller's with version 1, the one with version 2.
func cgroupHierarchies() ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, m := range mounts {
		if m.fs == "cgroup" || m.fs == "cgroup2" {
			roots = append(roots, m.point)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return roots, nil
}

// makeCgroup makes the cluster's cgroup in every hierarchy.
func makeCgroup(name string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if exists(filepath.Join(root, "cgroup.controllers")) {
			// Version 2 delegates a controller only on request. Controllers in use by version 1 are not listed here.
			controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
			if err != nil {
				return err
			}
			if err := handDown(root, dir, strings.Fields(string(controllers))); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // a new cpuset is empty and takes no process
			value, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				continue // another controller
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func handDown(root, dir string, controllers []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, controller := range controllers {
		for _, at := range []string{root, dir} {
			if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil && controller == "memory" {
				return fmt.Errorf("hand the %s controller down to %s: %w", controller, dir, err)
			}
		}
	}
	return nil
}

// removeCgroup removes the cluster's cgroup and what is below it. They must hold no process any more.
func removeCgroup(name string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // gone in the meantime is as good as removed
		})
		if err != nil {
			return err
		}
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

type mountPoint struct{ point, fs, source, options string }

// readMounts reads the mounts of this process's namespace.
func readMounts() ([]mountPoint, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var all []mountPoint
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 2 {
			return nil, fmt.Errorf("/proc/self/mountinfo has a line of another form: %q", line)
		}
		all = append(all, mountPoint{point: head[4], fs: tail[0], source: tail[1], options: head[5]})
	}
	return all, nil
}
