package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

const stateRoot = "/var/lib/heymarket-operator"

// validName keeps the name of the network link, "hm-" and this, within the kernel's 15 bytes.
var validName = regexp.MustCompile(`^[a-z0-9]{1,8}$`)

// cluster is the state of a cluster that outlives the process that started it.
type cluster struct {
	Name    string `json:"name"`
	Slot    int    `json:"slot"`    // sets its addresses apart from those of the clusters beside it
	PID     int    `json:"pid"`     // its init: the parent of everything in it
	Started string `json:"started"` // the kernel's start time of that process, since process ids come again
	Kube    string `json:"kube"`    // path of the binary that it runs
}

// slots is how many clusters fit side by side.
const slots = 16

func (c cluster) dir() string              { return filepath.Join(stateRoot, c.Name) }
func (c cluster) file(name string) string  { return filepath.Join(c.dir(), name) }
func (c cluster) link() string             { return "hm-" + c.Name }
func (c cluster) cgroup() string           { return "heymarket-" + c.Name }
func (c cluster) hostIP() string           { return fmt.Sprintf("10.213.%d.1", c.Slot) }
func (c cluster) nodeIP() string           { return fmt.Sprintf("10.213.%d.2", c.Slot) }
func (c cluster) serviceRange() string     { return fmt.Sprintf("10.%d.0.0/16", 96+c.Slot) }
func (c cluster) service(last int) string  { return fmt.Sprintf("10.%d.0.%d", 96+c.Slot, last) }
func (c cluster) podRange() string         { return fmt.Sprintf("10.244.%d.0/24", c.Slot) }
func (c cluster) server() string           { return "https://" + c.nodeIP() + ":6443" }
func (c cluster) containerdSocket() string { return c.file("containerd.sock") }

// ranges are all addresses of the cluster.
func (c cluster) ranges() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.213.%d.0/30", c.Slot)), netip.MustParsePrefix(c.serviceRange()), netip.MustParsePrefix(c.podRange()),
	}
}

// running reports whether its init is alive.
func (c cluster) running() bool {
	started, err := startTime(c.PID)
	return err == nil && started == c.Started
}

// startTime is when a process started, in the kernel's ticks since boot.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	// The second field is the program's name in parentheses and may hold anything; the start time is field 22, the 20th after it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fs.ErrNotExist // a zombie runs nothing
	}
	return fields[19], nil
}

func (c cluster) save() error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return atomically(c.file("cluster.json"), func(f *os.File) error {
		_, err := f.Write(append(data, '\n'))
		return err
	})
}

// recorded reads the cluster of that name; ok is false when there is none.
func recorded(name string) (c cluster, ok bool, err error) {
	c.Name = name
	data, err := os.ReadFile(c.file("cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		c.Slot = -1 // none was taken
		return c, exists(c.dir()), nil
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return c, false, fmt.Errorf("read what is known of cluster %s: %w", name, err)
	}
	return c, true, nil
}

// allRecorded lists the clusters of this machine, running or not.
func allRecorded() ([]cluster, error) {
	entries, err := os.ReadDir(stateRoot)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []cluster
	for _, entry := range entries {
		if !entry.IsDir() || !validName.MatchString(entry.Name()) {
			continue
		}
		c, ok, err := recorded(entry.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, c)
		}
	}
	return all, nil
}

// standing is the running cluster of that name.
func standing(name string) (cluster, error) {
	c, ok, err := recorded(name)
	if err != nil {
		return c, err
	}
	if !ok || !c.running() {
		return c, fmt.Errorf("no cluster %s is standing; `cluster up --name %s` starts it", name, name)
	}
	return c, nil
}

func status(out io.Writer, name string) error {
	c, err := standing(name)
	if err != nil {
		return err
	}
	if err := c.ready(); err != nil {
		return fmt.Errorf("cluster %s runs and does not answer: %w; its logs are in %s", name, err, c.file("log"))
	}
	for _, line := range [][2]string{
		{"name", c.Name},
		{"node", c.nodeIP()},
		{"services", c.serviceRange()},
		{"pods", c.podRange()},
		{"kubeconfig", c.file("kubeconfig")},
		{"kubectl", c.file("kubectl")},
		{"ca", c.file("ca.crt")},
		{"logs", c.file("log")},
		{"pid", strconv.Itoa(c.PID)},
	} {
		fmt.Fprintf(out, "%-11s%s\n", line[0], line[1])
	}
	return nil
}

// execIn replaces this process by a command in the cluster's network namespace.
func execIn(name string, args []string) error {
	c, err := standing(name)
	if err != nil {
		return err
	}
	nsenter := find("nsenter")
	if nsenter == "" || len(args) == 0 {
		return errors.New("exec takes a command, and nsenter of the package util-linux")
	}
	return syscall.Exec(nsenter, append([]string{"nsenter", "--target", strconv.Itoa(c.PID), "--net", "--"}, args...), os.Environ())
}
