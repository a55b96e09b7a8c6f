package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// blackholeMetric is worse than any route's that the kernel or a person sets without a thought.
const blackholeMetric = "42000"

// connect joins the cluster's network namespace to the host: one link, and routes by it to Services and Pods, so that a test on the host reaches them
// directly and no firewall rule is needed. Below the routes lie black holes: should the link die, packets to these ranges are dropped here and
// do not leave the machine by its default route.
func (c cluster) connect(ctx context.Context) error {
	lines := []string{
		"route add blackhole " + c.serviceRange() + " metric " + blackholeMetric,
		"route add blackhole " + c.podRange() + " metric " + blackholeMetric,
		"route add blackhole " + c.ranges()[0].String() + " metric " + blackholeMetric,
		"link add " + c.link() + " type veth peer name eth0 netns " + strconv.Itoa(c.PID),
		"addr add " + c.hostIP() + "/30 dev " + c.link(),
		"link set " + c.link() + " up",
		"route add " + c.serviceRange() + " via " + c.nodeIP() + " dev " + c.link(),
		"route add " + c.podRange() + " via " + c.nodeIP() + " dev " + c.link(),
	}
	for _, line := range lines {
		if _, err := command(ctx, "ip", strings.Fields(line)...); err != nil {
			return fmt.Errorf("connect the cluster to the host: %w", err)
		}
	}
	return nil
}

// disconnect removes link and routes, as far as they are there.
func (c cluster) disconnect(ctx context.Context) error {
	if c.Slot < 0 {
		return nil
	}
	if exists("/sys/class/net/" + c.link()) {
		if _, err := command(ctx, "ip", "link", "del", c.link()); err != nil && exists("/sys/class/net/"+c.link()) {
			return err
		}
	}
	routes, err := command(ctx, "ip", "-4", "route", "show", "type", "blackhole")
	if err != nil {
		return err
	}
	for _, r := range c.ranges() {
		for line := range strings.Lines(routes) {
			if strings.Contains(line, r.String()+" ") && strings.Contains(line, "metric "+blackholeMetric) {
				if _, err := command(ctx, "ip", "route", "del", "blackhole", r.String(), "metric", blackholeMetric); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// freeSlot is the first slot whose addresses neither another cluster nor a route of the host uses.
func freeSlot(ctx context.Context) (int, error) {
	others, err := allRecorded()
	if err != nil {
		return 0, err
	}
	out, err := command(ctx, "ip", "-4", "route", "show", "table", "all")
	if err != nil {
		return 0, err
	}
	used := routed(out)
next:
	for slot := range slots {
		for _, other := range others {
			if other.Slot == slot {
				continue next
			}
		}
		for _, own := range (cluster{Slot: slot}).ranges() {
			for _, prefix := range used {
				if prefix.Overlaps(own) {
					continue next
				}
			}
		}
		return slot, nil
	}
	return 0, fmt.Errorf("every address range for a cluster is in use: of 10.213, 10.%d to 10.%d and 10.244, `ip route` shows by what", 96, 96+slots-1)
}

// routed are the addresses that `ip route` speaks of, the default route aside.
func routed(text string) []netip.Prefix {
	var used []netip.Prefix
	for line := range strings.Lines(text) {
		fields := strings.Fields(line) // "10.0.0.0/8 via …", "blackhole 10.0.0.0/8 …", "local 10.0.0.1 …"
		for _, field := range fields[:min(2, len(fields))] {
			if prefix, err := netip.ParsePrefix(field); err == nil && prefix.Bits() > 0 {
				used = append(used, prefix)
			} else if address, err := netip.ParseAddr(field); err == nil {
				used = append(used, netip.PrefixFrom(address, address.BitLen()))
			}
		}
	}
	return used
}
