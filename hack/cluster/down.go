package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endLimit is how long the kernel may take to end everything in a cluster once its init is killed.
const endLimit = 30 * time.Second

func down(name string) error {
	if err := checkHost(); err != nil {
		return err
	}
	p := newProgress("cluster")
	defer p.close()
	waiting := func() { p.step("another process starts or stops a cluster; waiting for it") }
	return locked(lockFile(), waiting, func() error {
		c, ok, err := recorded(name)
		if err != nil {
			return err
		}
		if !ok {
			p.say("there is no cluster %s", name)
			return nil
		}
		p.step("ending cluster %s", name)
		// Ctrl-C must not leave half of it: this runs to its end.
		if err := c.remove(context.Background()); err != nil {
			return fmt.Errorf("remove cluster %s: %w; run `cluster down --name %s` again", name, err, name)
		}
		p.say("cluster %s is gone, the host is as it was", name)
		return nil
	})
}

// remove ends a cluster's processes, and then removes everything outside its namespaces: link, routes, cgroups, files.
func (c cluster) remove(ctx context.Context) error {
	if c.running() {
		// The namespace, and so the processes, are found by the init's id, which belongs to this cluster according to its start time.
		inside, err := processesIn(c.PID)
		if err != nil {
			return err
		}
		if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end process %d: %w", c.PID, err)
		}
		deadline := time.Now().Add(endLimit)
		for pid, started := range inside {
			for now, err := startTime(pid); err == nil && now == started; now, err = startTime(pid) {
				if time.Now().After(deadline) {
					return fmt.Errorf("process %d is still there %s after its init was killed", pid, endLimit)
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	if err := c.disconnect(ctx); err != nil {
		return err
	}
	var err error
	for range 100 { // a cgroup is busy for a moment after its last process
		if err = removeCgroup(c.cgroup()); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir()); err != nil {
		return err
	}
	if err := os.Remove(stateRoot); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// processesIn lists the processes in the process namespace of that one, and in those below it, with their start times.
func processesIn(pid int) (map[int]string, error) {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil {
			parents[id] = parent(id)
		}
	}
	found := map[int]string{}
	for id := range parents {
		for at := id; at != 0; at = parents[at] {
			if at == pid {
				if started, err := startTime(id); err == nil {
					found[id] = started
				}
				break
			}
		}
	}
	return found, nil
}

func parent(pid int) int {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return id
}
