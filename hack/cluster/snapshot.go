package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// watched are the settings of the whole machine that Kubernetes, containerd and their kind are known to change.
var watched = []string{
	"vm/overcommit_memory", "vm/panic_on_oom", "vm/max_map_count", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
	"kernel/keys/root_maxbytes", "kernel/pid_max", "fs/inotify/max_user_watches", "fs/inotify/max_user_instances", "fs/file-max",
	"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/route_localnet", "net/ipv4/conf/all/forwarding",
	"net/ipv4/ip_unprivileged_port_start", "net/ipv6/conf/all/forwarding", "net/netfilter/nf_conntrack_max", "net/core/somaxconn",
	"net/bridge/bridge-nf-call-iptables", "net/netfilter/nf_conntrack_tcp_timeout_established", "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
}

// snapshot prints, sorted, everything on the host that a cluster could leave behind: two snapshots, one from before a cluster and one from after, are
// the same text. What belongs to a cluster that is standing is left out, so that it may live on beside the one that is examined.
func snapshot(out io.Writer) error {
	clusters, err := allRecorded()
	if err != nil {
		return err
	}
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	own := map[int]bool{}
	var hidden []string
	for _, c := range clusters {
		if !c.running() {
			continue
		}
		inside, err := processesIn(c.PID)
		if err != nil {
			return err
		}
		for pid := range inside {
			own[pid] = true
		}
		hidden = append(hidden, c.link(), c.hostIP()+" ", c.dir(), "/"+c.cgroup())
		for _, r := range c.ranges() {
			hidden = append(hidden, r.String())
		}
	}
	if len(hidden) == 0 && exists(stateRoot) {
		say("file %s", stateRoot)
	}
	if err := snapshotProcesses(own, say); err != nil {
		return err
	}
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		say("mount %s %s %s %s", m.point, m.fs, m.source, m.options)
	}
	for _, args := range [][]string{{"-o", "link"}, {"-o", "-4", "addr"}, {"-4", "route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}, {"rule"}, {"netns"}} {
		text, err := command(context.Background(), "ip", args...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			// Counters of time that run by themselves, and flags that they set.
			for _, word := range []string{" expires ", " valid_lft "} {
				line, _, _ = strings.Cut(line, word)
			}
			say("ip %s: %s", args[len(args)-1], strings.TrimSpace(line))
		}
	}
	if find("nft") != "" {
		rules, err := command(context.Background(), "nft", "list", "ruleset")
		if err != nil {
			return err
		}
		for line := range strings.Lines(rules) {
			say("nft %s", strings.TrimSpace(line))
		}
	}
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			// Below the first level only what Kubernetes and containerd name: other programs make and remove cgroups of their own all the time.
			named := slices.ContainsFunc([]string{"kube", "k8s.io", "containerd", "heymarket"}, func(word string) bool { return strings.Contains(path, word) })
			if err == nil && entry.IsDir() && (named || filepath.Dir(path) == root) {
				say("cgroup %s", path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, name := range watched {
		if value, err := os.ReadFile("/proc/sys/" + name); err == nil {
			say("sysctl %s = %s", name, strings.TrimSpace(string(value)))
		}
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/run/netns", "/run/containerd/runc", "/etc/cni/net.d", "/usr/libexec/kubernetes"} {
		if exists(dir) {
			say("file %s", dir)
		}
	}
	lines = slices.DeleteFunc(lines, func(line string) bool {
		return slices.ContainsFunc(hidden, func(part string) bool { return strings.Contains(line+" ", part) })
	})
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		fmt.Fprintln(out, line)
	}
	return nil
}

// snapshotProcesses names the programs that run in namespaces other than the host's, and the cluster's programs wherever they run.
func snapshotProcesses(own map[int]bool, say func(string, ...any)) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	home := map[string]string{}
	for _, kind := range []string{"net", "pid"} {
		if home[kind], err = os.Readlink("/proc/self/ns/" + kind); err != nil {
			return err
		}
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || own[pid] {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", entry.Name(), "exe"))
		if err != nil {
			continue // a kernel thread, or gone
		}
		for kind, id := range home {
			if there, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns", kind)); err == nil && there != id {
				say("process %s in another %s namespace", program, kind)
			}
		}
		if base := filepath.Base(program); base == "kube" || strings.HasPrefix(base, "kube-") || strings.HasPrefix(base, "containerd-shim") {
			say("process %s", program)
		}
	}
	return nil
}
