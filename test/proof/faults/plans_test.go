package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/testenv"
	"heymarket.dev/operator/test/support/snapshot"
)

const (
	// sampled is the number of plans that `make test` has time for.
	sampled = 40
	// pairs is the number of plans in which a fault meets another one.
	pairs = 2
)

// learnt are faults that once led to another end. Every run begins with them.
var learnt = map[string][][]fault{
	"another host": {
		{{stale, "GET Secret/support-url #1"}, {cut, "MODIFIED secrets/support-url #1"}}, // The URL before was forgotten.
	},
	"expose by Ingress": {
		{{stale, "GET Secret/support-url #1"}, {delayed, "MODIFIED ingresses/support-receiver #1"}}, // Likewise.
	},
	"renew the URL": {
		{{failed, "PATCH secrets/support-url #1"}}, // The status said that it was renewed, so it never was.
	},
	"expose no more": {
		{{lost, "PATCH heymarketwebhooks/support/status #1"}, {dropped, "MODIFIED heymarketwebhooks/support #2"}}, // The informer waits before it lists.
	},
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard()) // The informers' complaints are what is asked for.
	apiservertest.Main(m)
}

// plan is a scenario and what goes wrong in it.
type plan struct {
	scenario scenario
	faults   []fault
	// good is the end of a run without a fault.
	good *snapshot.State
}

func (p plan) String() string {
	var faults []string
	for _, f := range p.faults {
		faults = append(faults, f.String())
	}
	return p.scenario.name + ": " + strings.Join(faults, ", then ")
}

// outcome of one run.
type outcome struct {
	state   snapshot.State
	moments map[string][]string
	struck  int
	took    time.Duration
}

// run plays the scenario. It returns an error if it does not come to the good end.
func (c *cluster) run(ctx context.Context, dir string, pl plan) (out outcome, err error) {
	p, err := c.newPlay(ctx, dir, pl.faults...)
	if err != nil {
		return out, err
	}
	if err := p.secret(ctx, "heymarket", map[string]string{"token": "first"}); err != nil {
		return out, err
	}
	s, segment := pl.scenario, ""
	if s.before != "" || !s.restarted {
		if err := p.start(ctx); err != nil {
			return out, err
		}
		defer func() { err = keep(err, p.stop()) }()
	}
	if s.before != "" {
		if err := p.create(ctx, s.before); err != nil {
			return out, err
		}
		before, err := p.settled(ctx, nil)
		if err != nil {
			return out, fmt.Errorf("before the scenario: %w", err)
		}
		segment = segmentOf(before)
	}
	if s.restarted && s.before != "" {
		if err := p.stop(); err != nil {
			return out, err
		}
	}
	p.wire.arm()
	began := time.Now()
	if s.restarted {
		if err := p.start(ctx); err != nil {
			return out, err
		}
		if s.before == "" {
			defer func() { err = keep(err, p.stop()) }()
		}
	}
	if err := s.act(ctx, p); err != nil {
		return out, fmt.Errorf("what a person does: %w", err)
	}
	if s.gone {
		err = p.gone(ctx)
		if err == nil && s.purged && !p.stage.Removed(p.hook) {
			err = errors.New("the keys are still in Redis")
		}
		out.took = time.Since(began)
	} else if _, err = p.settled(ctx, pl.good); err == nil {
		out.took = time.Since(began)
		if err = p.rest(ctx); err == nil {
			out.state, err = p.settled(ctx, pl.good) // At rest it is still what it was.
		}
		if err == nil && segment != "" && segmentOf(out.state) != segment && !s.renewed {
			err = errors.New("the URL is another one")
		}
	}
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	out.moments, out.struck = p.wire.moments, len(p.wire.struck)
	return out, err
}

func segmentOf(s snapshot.State) string {
	if len(s.Paths) == 0 {
		return ""
	}
	return s.Paths[0][strings.LastIndexByte(s.Paths[0], '/')+1:]
}

func keep(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func TestFaults(t *testing.T) {
	apiservertest.InstallExtensions(t)
	count := testenv.Number(t, "FAULTS", sampled, 0)
	now := time.Now().UTC()
	seed := testenv.Number(t, "FAULTS_SEED", now.Year()*1000+now.YearDay(), 0)
	t.Logf("FAULTS=%d FAULTS_SEED=%d", count, seed)
	c := newCluster(t, apiservertest.Config(t))

	plans := c.plans(t, uint64(seed))
	t.Logf("%d scenarios, %d plans of one fault and of two", len(scenarios), len(plans))
	if s := os.Getenv("FAULTS_PLAN"); s != "" {
		only := regexp.MustCompile(s)
		plans = slices.DeleteFunc(plans, func(p plan) bool { return !only.MatchString(p.String()) })
		if len(plans) == 0 {
			t.Fatalf("FAULTS_PLAN=%s chooses none of them", s)
		}
	}
	if count > 0 {
		plans = plans[:min(count, len(plans))]
	}
	var mu sync.Mutex
	ran, struck := map[string]int{}, 0
	slowest, slow := time.Duration(0), ""
	atOnce(len(plans), func(i int) {
		out, err := c.run(t.Context(), t.TempDir(), plans[i])
		if err != nil {
			t.Errorf("%s: %v", plans[i], err)
		}
		mu.Lock()
		defer mu.Unlock()
		if out.struck == len(plans[i].faults) {
			struck++
		}
		if out.took > slowest {
			slowest, slow = out.took, plans[i].String()
		}
		for _, f := range plans[i].faults {
			ran[f.kind]++
		}
	})
	t.Logf("%d plans ran, in %d of them every fault struck; %v; the slowest came to its end after %s: %s", len(plans), struck, ran, slowest.Round(time.Millisecond), slow)
	if struck < len(plans)*3/4 {
		t.Errorf("only %d of %d plans had their faults: the runs are not like the good ones", struck, len(plans))
	}
}

// atOnce calls run for 0 to n-1, several at once: plans wait most of the time.
func atOnce(n int, run func(i int)) {
	places := make(chan struct{}, 6*runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			run(i)
		})
	}
	all.Wait()
}

// plans runs every scenario without a fault and returns the plans: those that were learnt, then, in an order that the seed
// chooses, each fault alone, and each with pairs others.
func (c *cluster) plans(t *testing.T, seed uint64) []plan {
	t.Helper()
	good := make([]outcome, len(scenarios))
	atOnce(len(scenarios), func(i int) {
		var err error
		if good[i], err = c.run(t.Context(), t.TempDir(), plan{scenario: scenarios[i]}); err != nil {
			t.Errorf("%s, without a fault: %v", scenarios[i].name, err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	var first, all []plan
	r := rand.New(rand.NewPCG(seed, 0))
	for i, s := range scenarios {
		for _, faults := range learnt[s.name] {
			first = append(first, plan{s, faults, &good[i].state})
		}
		moments := good[i].moments
		t.Logf("%s: %d writes, %d events, %d reads", s.name, len(moments[aWrite]), len(moments[anEvent]), len(moments[aRead]))
		var faults []fault
		for _, of := range []struct {
			moments []string
			kinds   []string
		}{{moments[aWrite], writeFaults}, {moments[anEvent], eventFaults}, {moments[aRead], []string{stale}}} {
			slices.Sort(of.moments)
			for _, moment := range of.moments {
				for _, kind := range of.kinds {
					faults = append(faults, fault{kind, moment})
				}
			}
		}
		for j, f := range faults {
			all = append(all, plan{s, []fault{f}, &good[i].state})
			for range pairs {
				if other := faults[r.IntN(len(faults))]; other.moment != faults[j].moment {
					all = append(all, plan{s, []fault{f, other}, &good[i].state})
				}
			}
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return append(first, all...)
}
