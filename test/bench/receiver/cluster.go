package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/stream"
)

// fleetSize is the number of webhooks that are spread over the nodes.
const fleetSize = 1000

func fleetPrefix(i int) string { return contract.RedisPrefix("team-"+strconv.Itoa(i), name) }

// redisCluster shows what a Redis Cluster of three nodes adds: how webhooks spread over it, what one of them can do, which
// lives on one node, and what a fleet does. Receivers are simulated by their calls of the append script, because two processors are soon
// full; the cost of an event on its node shows what a node with a CPU of its own could do.
func (b *bench) redisCluster() error {
	single, err := b.redis("everysec")
	if err != nil {
		return err
	}
	s, err := b.captureScript(single)
	if err != nil {
		return err
	}
	nodes, err := b.redisNodes()
	if err != nil {
		return err
	}
	if err := productOn(nodes); err != nil {
		return err
	}
	if err := b.spread(nodes); err != nil {
		return err
	}
	alone, err := b.caller(s, 1, single)
	if err != nil {
		return err
	}
	one, err := b.caller(s, 1, nodes...)
	if err != nil {
		return err
	}
	fleet, err := b.caller(s, fleetSize, nodes...)
	if err != nil {
		return err
	}
	contenders := []*clusterLoad{alone, one, fleet}
	for round := range b.rounds + 1 {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			b.settle()
			got, err := calm(b, forThroughput, func() (clusterSample, error) { return c.run(s, b.short(3*time.Second, 500*time.Millisecond)) })
			if err != nil {
				return err
			}
			if round > 0 { // the first one warms up
				c.got = append(c.got, got)
			}
		}
	}
	add := func(what string, c *clusterLoad, control string, than *clusterLoad) {
		rates, cpu := c.figures()
		others, _ := than.figures()
		b.add(row{
			What: what, Measured: perSecond(median(rates)), Control: control + ": " + perSecond(median(others)), Ratio: fmt.Sprintf("%.2f", median(rates)/median(others)),
			Figures: map[string][]float64{"events/s": rates, "control events/s": others},
		})
		b.add(row{
			What: what + ": CPU of Redis for one event", Measured: fmt.Sprintf("%.1f µs", median(cpu)),
			Control: fmt.Sprintf("a node whose processor has nothing else to do is full at %.0f/s; the busiest node had %s of the events' CPU", 1e6/median(cpu), c.busiest()),
			Figures: map[string][]float64{"µs": cpu},
		})
	}
	add("one webhook on a Cluster of three", one, "on a single Redis", alone)
	add(fmt.Sprintf("%s webhooks on it", thousands(fleetSize)), fleet, "one webhook on it", one)
	return nil
}

// redisNodes starts a Cluster.
func (b *bench) redisNodes() ([]*redis, error) {
	var nodes []*redis
	var addresses []string
	for range 3 {
		r, err := b.redis("everysec", "--cluster-enabled", "yes")
		if err != nil {
			return nil, err
		}
		nodes, addresses = append(nodes, r), append(addresses, r.addr)
	}
	create := append([]string{"--cluster", "create"}, addresses...)
	if out, err := exec.Command("redis-cli", append(create, "--cluster-yes")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a cluster: %w\n%s", err, out)
	}
	for _, r := range nodes {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			m, err := r.do("CLUSTER", "INFO")
			if err != nil {
				return nil, err
			}
			if text, _ := m.ToString(); strings.Contains(text, "cluster_state:ok") {
				break
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("node %s of the cluster is not ready after half a minute", r.addr)
			}
		}
	}
	return nodes, nil
}

// productOn appends by the product's own store, which finds the node by itself.
func productOn(nodes []*redis) error {
	url := nodes[0].url() + "?addr=" + nodes[1].addr + "&addr=" + nodes[2].addr
	for i := range 12 {
		s := stream.New("team-"+strconv.Itoa(i), name, "bench")
		err := s.Connect(context.Background(), url, nil)
		if err == nil {
			err = appendOne(s)
		}
		s.Close()
		if err != nil {
			return fmt.Errorf("the product's store on a cluster: %w", err)
		}
	}
	return nil
}

// spread counts the webhooks on each node.
func (b *bench) spread(nodes []*redis) error {
	counts := make([]int, len(nodes))
	for i := range fleetSize {
		m, err := nodes[0].do("CLUSTER", "KEYSLOT", fleetPrefix(i))
		if err != nil {
			return err
		}
		slot, err := m.AsInt64()
		if err != nil {
			return err
		}
		const slots = 16384
		counts[int(slot)*len(nodes)/slots]++ // redis-cli deals them out in equal ranges
	}
	b.add(row{
		What:     fmt.Sprintf("%s webhooks on three nodes", thousands(fleetSize)),
		Measured: fmt.Sprintf("%d to %d on one", slices.Min(counts), slices.Max(counts)),
		Control:  fmt.Sprintf("evenly: %d", fleetSize/len(nodes)), Ratio: fmt.Sprintf("%.2f", float64(slices.Max(counts)*len(nodes))/fleetSize),
	})
	return nil
}

// clusterLoad are the calls for a number of webhooks.
type clusterLoad struct {
	client
	nodes []*redis
	got   []clusterSample
}

type clusterSample struct {
	rate float64
	cpu  []time.Duration // of each node
	each float64         // µs of all nodes for one event
}

// caller returns a load of webhooks on nodes, by the client and settings of the product.
func (b *bench) caller(s script, webhooks int, nodes ...*redis) (*clusterLoad, error) {
	var addresses []string
	for _, r := range nodes {
		addresses = append(addresses, r.addr)
	}
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: addresses, DisableCache: true, PipelineMultiplex: -1, MaxFlushDelay: 20 * time.Microsecond, RingScaleEachConn: 9,
	})
	if err != nil {
		return nil, err
	}
	b.cleanup(c.Close)
	lua, own := rueidis.NewLuaScript(s.source), contract.RedisPrefix(namespace, name)
	return &clusterLoad{nodes: nodes, client: client{"fleet", func(ctx context.Context, s script, id int64) error {
		keys, args := s.split(id)
		prefix := fleetPrefix(int(id) % webhooks)
		for i, key := range keys {
			keys[i] = prefix + strings.TrimPrefix(key, own)
		}
		n, err := lua.Exec(ctx, c, keys, args).AsInt64()
		return oneOf(int(n), err)
	}}}, nil
}

func (c *clusterLoad) run(s script, d time.Duration) (clusterSample, error) {
	var before []time.Duration
	for _, r := range c.nodes {
		before = append(before, r.cpu())
	}
	result, err := hammer(c.client, s, d)
	out := clusterSample{rate: result.rate}
	for i, r := range c.nodes {
		used := r.cpu() - before[i]
		out.cpu = append(out.cpu, used)
		out.each += float64(used) / 1e3 / (result.rate * d.Seconds())
	}
	return out, err
}

func (c *clusterLoad) figures() (rates, cpu []float64) {
	for _, s := range c.got {
		rates, cpu = append(rates, s.rate), append(cpu, s.each)
	}
	return rates, cpu
}

// busiest is the share of the node that worked most.
func (c *clusterLoad) busiest() string {
	total := make([]time.Duration, len(c.nodes))
	var all time.Duration
	for _, s := range c.got {
		for i, used := range s.cpu {
			total[i] += used
			all += used
		}
	}
	return fmt.Sprintf("%.0f %%", 100*float64(slices.Max(total))/float64(max(all, 1)))
}
