package rules

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"heymarket.dev/operator/test/surface/chart/rules/live"
)

var root = filepath.Join("..", "..", "..", "..")

func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("HEYMARKET_REQUIRE_ALL") != "" {
			t.Fatal("redis-server is missing; `make test` installs it, or: apt-get install redis-server")
		}
		t.Skip("left out: redis-server is missing; `make test` installs it and leaves nothing out")
	}
}

func buildReceiver(t *testing.T) (path string) {
	t.Helper()
	path, err := live.Build(t.Context(), root, t.TempDir(), "./cmd/receiver")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// minutes scrapes and evaluates once a minute, n times, on a clock of its own: what is scraped is live, and nobody waits. It returns the time after the
// last minute and the alerts that fire then.
func minutes(t *testing.T, e *evaluation, begin time.Time, n int, scrape func(time.Time)) (end time.Time, firing []string) {
	t.Helper()
	for range n {
		scrape(begin)
		firing = e.at(begin)
		begin = begin.Add(time.Minute)
	}
	return begin, firing
}

// Whatever is wrong with a real Redis is in the metrics, in /status and in exactly the alerts that are about it, and all of them end with it.
func TestTroubleWithRedisFiresAlerts(t *testing.T) {
	t.Parallel()
	needRedis(t)
	const down, notDurable = "HeymarketRedisDown", "HeymarketRedisNotDurable"
	// As nothing else is accepted, the objective is missed as well.
	refusing := []string{"HeymarketAcceptedBudgetBurnsFast", "HeymarketEventsRefused", down}
	redis := func(args ...string) func(*testing.T, *live.Lab) {
		return func(t *testing.T, lab *live.Lab) {
			t.Helper()
			if err := lab.Redis(t.Context(), args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal := func(s os.Signal) func(*testing.T, *live.Lab) {
		return func(t *testing.T, lab *live.Lab) {
			t.Helper()
			if err := lab.SignalRedis(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	receiver := buildReceiver(t)
	for name, tc := range map[string]struct {
		trouble func(*testing.T, *live.Lab)
		problem string
		up      float64
		alerts  []string
	}{
		"full":             {redis("CONFIG", "SET", "maxmemory", "1"), "OutOfMemory", 0, refusing},
		"too few replicas": {redis("CONFIG", "SET", "min-replicas-to-write", "1"), "TooFewReplicas", 0, refusing},
		"evicting":         {redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), "Evicts", 1, []string{notDurable}},
		"forgetful":        {redis("CONFIG", "SET", "appendonly", "no"), "NoAppendOnlyFile", 1, []string{notDurable}},
		"demoted":          {redis("REPLICAOF", "127.0.0.1", "1"), "ReadOnly", 0, refusing},
		"without rights":   {redis("ACL", "SETUSER", "default", "-set"), "NoRights", 0, refusing},
		"silent":           {signal(syscall.SIGSTOP), "Unreachable", 0, []string{down}},
		"away":             {signal(syscall.SIGKILL), "Unreachable", 0, refusing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab, err := live.Open(t.Context(), receiver)
			if err != nil {
				t.Fatal(err)
			}
			defer lab.Close()
			e, silent := evaluate(t, lab.DB), name == "silent"
			var last live.Scrape
			scrape := func(now time.Time) {
				t.Helper()
				if !silent || last[durable] == 1 { // each event would wait for seconds
					lab.Event(t.Context())
				}
				var err error
				if last, err = lab.Scrape(t.Context(), now); err != nil {
					t.Fatal(err)
				}
			}
			now, firing := minutes(t, e, time.Now(), 8, scrape)
			if len(firing) > 0 {
				t.Fatalf("without any trouble these fire: %v", firing)
			}
			tc.trouble(t, lab)
			await(t, func() string {
				problems, durably, err := lab.Problems(t.Context())
				var scraped live.Scrape
				if err == nil {
					scraped, err = lab.Scrape(t.Context(), now)
				}
				now = now.Add(time.Second)
				if err == nil && slices.Contains(problems, tc.problem) && !durably && scraped[durable] == 0 && scraped[up] == tc.up {
					last = scraped
					return ""
				}
				return fmt.Sprintf("/status has %v, durable %t, %v; the scrape %s %v, %s %v; want %s and %v", problems, durably, err, durable, scraped[durable], up, scraped[up], tc.problem, tc.up)
			})
			if _, firing = minutes(t, e, now, 7, scrape); !slices.Equal(firing, tc.alerts) {
				t.Errorf("these fire: %v, want %v", firing, tc.alerts)
			}
		})
	}
}

const (
	durable = `heymarket_receiver_durable{namespace="staging", webhook="support"}`
	up      = `heymarket_receiver_redis_up{namespace="staging", webhook="support"}`
)

func await(t *testing.T, missing func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// With every receiver gone there is nothing left to scrape but the operator.
func TestReceiversThatAreGoneFireAnAlert(t *testing.T) {
	t.Parallel()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		const sentence = "needs a kube-apiserver and etcd in KUBEBUILDER_ASSETS; `make test` builds and sets them"
		if os.Getenv("HEYMARKET_REQUIRE_ALL") != "" {
			t.Fatal(sentence)
		}
		t.Skip(sentence)
	}
	operator, err := live.OpenOperator(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	for _, object := range [][2]string{
		{"/api/v1/namespaces", `metadata: {name: staging}`},
		{"/api/v1/namespaces/staging/secrets", "metadata: {name: heymarket}\nstringData: {token: the-token-that-is-in-force}"},
		{"/apis/heymarket.dev/v1alpha1/namespaces/staging/heymarketwebhooks", `
apiVersion: heymarket.dev/v1alpha1
kind: HeymarketWebhook
metadata: {name: support}
spec:
  token: {secretKeyRef: {name: heymarket, key: token}}
  targets: [{name: crm, url: "http://crm.staging.svc:8080/heymarket"}]`},
	} {
		if err := operator.Create(t.Context(), object[0], object[1]); err != nil {
			t.Fatal(err)
		}
	}
	e, now := evaluate(t, operator.DB), time.Now()
	begin := now
	after := func(ready, n int) (firing []string) {
		t.Helper()
		if err := operator.Receivers(t.Context(), "staging", "support", ready); err != nil {
			t.Fatal(err)
		}
		await(t, func() string { // the operator's cache follows
			seen, err := operator.Scrape(t.Context(), now)
			now = now.Add(time.Second)
			if err == nil && seen[`heymarket_webhook_receivers_ready{name="support", namespace="staging"}`] == float64(ready) {
				return ""
			}
			return fmt.Sprintf("the operator does not report %d receivers: %v", ready, err)
		})
		now, firing = minutes(t, e, now, n, func(at time.Time) {
			if _, err := operator.Scrape(t.Context(), at); err != nil {
				t.Fatal(err)
			}
		})
		return firing
	}
	// Ready is not True in this cluster, in which no Pod runs: that alert is right each time.
	for _, step := range []struct {
		ready, minutes int
		want           []string
	}{
		{2, 15, []string{"HeymarketWebhookNotReady"}},
		{0, 4, []string{"HeymarketReceiversGone", "HeymarketWebhookNotReady"}},
		{1, 18, []string{"HeymarketReceiversMissing", "HeymarketWebhookNotReady"}},
		{2, 2, []string{"HeymarketWebhookNotReady"}},
	} {
		if firing := after(step.ready, step.minutes); !slices.Equal(firing, step.want) {
			t.Errorf("with %d receivers ready these fire: %v, want %v", step.ready, firing, step.want)
		}
	}
	showOperator(t, operator, begin, now)
}
