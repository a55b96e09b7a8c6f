package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// initCommand is the hidden command that the driver calls itself by inside the new namespaces: `cluster __init NAME SLOT KUBE`.
const initCommand = "__init"

// fdGo is the descriptor that init inherits: readable once the host's side of the network is there.
const fdGo = 3

// kubeInside is where the kube binary is found inside the cluster, wherever the cache is.
const kubeInside = "/run/cluster/kube"

// runInit is process 1 of a cluster. It has network, mount and process namespaces of its own, hides from the components those paths of the host that
// they would write to, and keeps the components running. When it is killed, the kernel ends everything in the process namespace with it, and the
// mounts and the network disappear with the last process: nothing needs to be cleaned up individually.
func runInit() {
	slot, err := strconv.Atoi(os.Args[3])
	if err == nil {
		c := cluster{Name: os.Args[2], Slot: slot, Kube: os.Args[4]}
		if err = c.enter(); err == nil {
			c.supervise()
		}
	}
	fmt.Fprintf(os.Stderr, "init: %v\n", err)
	os.Exit(1)
}

// sysctls are the settings that a kubelet wants and would otherwise set for the whole machine.
var sysctls = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

func (c cluster) enter() error {
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Both are opened before a mount hides the way to them.
	state, err := os.Open(c.dir())
	if err != nil {
		return err
	}
	defer state.Close()
	kube, err := os.Open(c.Kube)
	if err != nil {
		return err
	}
	defer kube.Close()
	opened := func(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
	steps := []func() error{
		// Sockets, container state and network namespaces live in /run, what components keep in fixed places below /var/lib: both are fresh, the
		// cluster's own directory aside.
		func() error { return mount("tmpfs", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755") },
		func() error {
			return mount("tmpfs", "/var/lib", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755")
		},
		func() error { return os.MkdirAll(c.dir(), 0o755) },
		func() error { return mount(opened(state), c.dir(), "", syscall.MS_BIND, "") },
		func() error { return mount(c.file("log"), "/var/log", "", syscall.MS_BIND, "") },
		func() error { return os.MkdirAll(filepath.Dir(kubeInside), 0o755) },
		func() error { return os.WriteFile(kubeInside, nil, 0o755) },
		func() error { return mount(opened(kube), kubeInside, "", syscall.MS_BIND, "") },
		func() error {
			return mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
		},
		c.hideSysctls,
		func() error { return mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, "") }, // the kubelet insists
		awaitGo,
		c.setUpNetwork,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(steps), err)
		}
	}
	return nil
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// hideSysctls lays a file with the wanted value over each setting of the machine that a kubelet would change.
func (c cluster) hideSysctls() error {
	for name, value := range sysctls {
		file := filepath.Join("/run/cluster/sysctl", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if target := "/proc/sys/" + name; exists(target) {
			if err := mount(file, target, "", syscall.MS_BIND, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func awaitGo() error {
	pipe := os.NewFile(fdGo, "go")
	defer pipe.Close()
	if n, _ := pipe.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the driver ended before the network was there")
	}
	return nil
}

// setUpNetwork is the inside of the link. There is no default route: nothing that runs in the cluster can reach beyond the host.
func (c cluster) setUpNetwork() error {
	for _, line := range []string{
		"link set lo up",
		"addr add " + c.nodeIP() + "/30 dev eth0",
		"link set eth0 up",
		// A Service's address becomes a Pod's after routing, so that a process of the node itself first needs a route for it, any route.
		"route add " + c.serviceRange() + " dev lo src " + c.nodeIP(),
	} {
		if out, err := exec.CommandContext(context.Background(), find("ip"), strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                 "1",
		"net/ipv4/ip_unprivileged_port_start": "0", // the ingress controller has 80 and 443 without being root
		"net/ipv4/conf/all/rp_filter":         "0",
		"net/ipv4/conf/default/rp_filter":     "0",
		"net/ipv6/conf/all/disable_ipv6":      "1",
		"net/ipv6/conf/default/disable_ipv6":  "1",
	} {
		if file := "/proc/sys/" + name; exists(file) {
			if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// supervise starts each component when what it waits for answers, and again a second after it ends. It never returns.
func (c cluster) supervise() {
	var mu sync.Mutex
	byPID := map[int]component{}
	start := func(p component) {
		awaitAnswer(p.wait)
		mu.Lock()
		defer mu.Unlock()
		cmd, err := c.command(p)
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s init: start %s: %v\n", time.Now().Format(time.TimeOnly), p.name, err)
			return
		}
		byPID[cmd.Process.Pid] = p
	}
	for _, p := range c.components() {
		go start(p)
	}
	for {
		var how syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &how, 0, nil)
		if err != nil {
			time.Sleep(50 * time.Millisecond) // no child at the moment, or interrupted
			continue
		}
		mu.Lock()
		p, known := byPID[pid]
		delete(byPID, pid)
		mu.Unlock()
		if known { // the others are orphans of containers' shims
			fmt.Fprintf(os.Stderr, "%s init: %s ended (status %d, signal %d); starting it again\n", time.Now().Format(time.TimeOnly), p.name, how.ExitStatus(), how.Signal())
			time.AfterFunc(time.Second, func() { start(p) })
		}
	}
}

func (c cluster) command(p component) (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join("/var/log", p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	path := kubeInside
	if p.name == "containerd" {
		path = find("containerd")
	}
	return &exec.Cmd{
		Path: path, Args: p.argv, Stdout: log, Stderr: log, Dir: "/",
		Env:         []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}, nil
}

// awaitAnswer waits until a URL answers 200, if there is one.
func awaitAnswer(url string) {
	for url != "" && get(url) != http.StatusOK {
		time.Sleep(50 * time.Millisecond)
	}
}

// get is the status that a URL of the node itself answers, or 0.
func get(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // loopback of its own network namespace: a question of liveness, not of trust
	}}
	answer, err := client.Do(request)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close() // nothing is read of it
	return answer.StatusCode
}
