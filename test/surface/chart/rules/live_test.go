package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

func needAPIServer(t *testing.T) {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		const sentence = "needs a kube-apiserver and etcd in KUBEBUILDER_ASSETS; `make test` builds and sets them"
		if os.Getenv("HEYMARKET_REQUIRE_ALL") != "" {
			t.Fatal(sentence)
		}
		t.Skip(sentence)
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

// minutes scrapes and evaluates once a minute, n times, on a clock of its own: the scraped metrics are live, and there are no waits. It returns the time after the
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

// Every problem of a real Redis is shown by everything that reports on it: /status, the metrics, the operator's condition, the
// receiver's log, both dashboards and exactly the alerts for it. Before it starts, none of them shows anything.
func TestTroubleWithRedisIsInEveryReport(t *testing.T) {
	t.Parallel()
	needRedis(t)
	const down, notDurable = "HeymarketRedisDown", "HeymarketRedisNotDurable"
	// As nothing else is accepted, the objective is missed as well.
	refusing := []string{"HeymarketAcceptedBudgetBurnsFast", "HeymarketEventsRefused", down}
	redis := func(args ...string) func(*live.Lab) error {
		return func(lab *live.Lab) error { return lab.Redis(t.Context(), args...) }
	}
	signal := func(s os.Signal) func(*live.Lab) error {
		return func(lab *live.Lab) error { return lab.SignalRedis(s) }
	}
	receiver := buildReceiver(t)
	verdict, err := live.Build(t.Context(), filepath.Join(root, "test"), t.TempDir(), "./support/durableverdict")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		trouble func(*live.Lab) error
		problem string
		up      float64
		reason  string
		alerts  []string
	}{
		"full":             {redis("CONFIG", "SET", "maxmemory", "1"), "OutOfMemory", 0, "NotDurable", refusing},
		"too few replicas": {redis("CONFIG", "SET", "min-replicas-to-write", "1"), "TooFewReplicas", 0, "NotDurable", refusing},
		"evicting":         {redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), "Evicts", 1, "NotDurable", []string{notDurable}},
		"forgetful":        {redis("CONFIG", "SET", "appendonly", "no"), "NoAppendOnlyFile", 1, "NotDurable", []string{notDurable}},
		"read-only":        {func(lab *live.Lab) error { return lab.FollowAnother(t.Context()) }, "ReadOnly", 0, "NotDurable", refusing},
		"demoted":          {redis("REPLICAOF", "127.0.0.1", "1"), "ReadOnly", 0, "NotDurable", refusing},
		"without rights":   {redis("ACL", "SETUSER", "default", "-set"), "NoRights", 0, "NotDurable", refusing},
		"silent":           {signal(syscall.SIGSTOP), "Unreachable", 0, "RedisUnreachable", []string{down}},
		"away":             {signal(syscall.SIGKILL), "Unreachable", 0, "RedisUnreachable", refusing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab, err := live.Open(t.Context(), receiver)
			if err != nil {
				t.Fatal(err)
			}
			defer lab.Close()
			e, silent := evaluate(t, lab.DB, chartRules(t)), name == "silent"
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
			if got := report(t, lab, verdict, now); got != (reports{durable: true, condition: "Durable", safe: 1, reached: 1}) {
				t.Fatalf("without any trouble: %+v", got)
			}
			if err := tc.trouble(lab); err != nil {
				t.Fatal(err)
			}
			want := reports{problem: tc.problem, condition: tc.reason, logged: tc.problem, reached: tc.up}
			await(t, func() string {
				scraped, err := lab.Scrape(t.Context(), now)
				if err != nil {
					return err.Error()
				}
				last = scraped
				got := report(t, lab, verdict, now)
				now = now.Add(time.Second)
				if got == want && scraped[durable] == 0 && scraped[up] == tc.up {
					return ""
				}
				return fmt.Sprintf("the reports are %+v, durable %v and redis_up %v; want %+v, 0 and %v", got, scraped[durable], scraped[up], want, tc.up)
			})
			if _, firing = minutes(t, e, now, 7, scrape); !slices.Equal(firing, tc.alerts) {
				t.Errorf("these fire: %v, want %v", firing, tc.alerts)
			}
		})
	}
}

// reports are the figures in reports other than metrics and alerts.
type reports struct {
	problem       string // /status: its codes
	durable       bool   // /status
	condition     string // the reason of Durable, "" if its message does not name the problem
	logged        string // the codes of the lines about Redis
	safe, reached float64
}

func report(t *testing.T, lab *live.Lab, verdict string, now time.Time) (r reports) {
	t.Helper()
	text, err := lab.Status(t.Context())
	if err != nil {
		return r // It waits for Redis for longer than this test does.
	}
	var status struct {
		Problems []string
		Durable  bool
	}
	if err := json.Unmarshal(text, &status); err != nil {
		t.Fatal(err)
	}
	r.problem, r.durable = strings.Join(status.Problems, " "), status.Durable

	judge := exec.CommandContext(t.Context(), verdict)
	judge.Stdin = bytes.NewReader(text)
	answer, err := judge.Output()
	var condition struct {
		OK              bool
		Reason, Message string
	}
	if err != nil || json.Unmarshal(answer, &condition) != nil {
		t.Fatalf("there is no condition: %v: %s", err, answer)
	}
	if condition.OK == status.Durable {
		r.condition = condition.Reason
	}

	log, err := lab.Log()
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Reason, Problem string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "Redis has a problem" && strings.Contains(condition.Message, entry.Problem) {
			codes = append(codes, entry.Reason)
		}
	}
	r.logged = strings.Join(codes, " ")
	r.safe, r.reached = drawn(t, lab, "Redis safe", now), drawn(t, lab, "Redis reached", now)
	return r
}

// drawn is the figure of a panel, which must be the same on each dashboard that has it.
func drawn(t *testing.T, lab *live.Lab, title string, now time.Time) (figure float64) {
	t.Helper()
	files, err := live.Dashboards(root)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		dashboard, err := live.ReadDashboard(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, panel := range dashboard.Panels {
			if panel.Title != title {
				continue
			}
			matrix, err := lab.Ask(t.Context(), panel.Targets[0].Expr, now, now, live.Step)
			if err != nil || len(matrix) != 1 {
				t.Fatalf("%s, panel %q: %v, %v", dashboard.Title, title, matrix, err)
			}
			if last := matrix[0].Floats[0].F; found > 0 && last != figure {
				t.Fatalf("panel %q is %v on %s and %v on another", title, last, dashboard.Title, figure)
			} else {
				figure = last
			}
			found++
		}
	}
	if found == 0 {
		t.Fatalf("no dashboard has a panel %q", title)
	}
	return figure
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

// With all receivers down only the operator is left to scrape.
func TestReceiversThatAreGoneFireAnAlert(t *testing.T) {
	t.Parallel()
	needAPIServer(t)
	operator, err := live.OpenOperator(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	if err := operator.Webhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, now := evaluate(t, operator.DB, chartRules(t)), time.Now()
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
}
