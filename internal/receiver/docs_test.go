package receiver_test

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// TestEveryMetricIsDocumented compares the page on metrics with a live scrape, both ways.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	redis, to := redistest.Start(t), newSink(t)
	p := start(t, redis.URL(), newConfig(crm(to)))
	p.awaitReady()
	p.wantPost(sample(1), http.StatusOK)
	p.wantPost("{", http.StatusBadRequest)
	to.await(t, 1)
	var scrape string
	until(t, "the delivery is counted", func() bool {
		_, scrape = p.get("/metrics")
		return strings.Contains(scrape, `events_delivered_total{target="crm"} 1`)
	})

	documented := distinct(regexp.MustCompile("(?m)^\\| `(heymarket_receiver_[a-z_]+)`").FindAllStringSubmatch(string(page), -1))
	exposed := distinct(regexp.MustCompile(`(?m)^# TYPE (heymarket_receiver_[a-z_]+)`).FindAllStringSubmatch(scrape, -1))
	for _, name := range exposed {
		if !slices.Contains(documented, name) {
			t.Errorf("%s is not in docs/reference/metrics.md", name)
		}
	}
	// A metric with labels is exposed from its first value on; the page may be ahead of this scrape by those alone.
	rare := []string{"heymarket_receiver_target_failing"}
	var unknown []string
	for _, name := range documented {
		if !slices.Contains(exposed, name) && !slices.Contains(rare, name) {
			unknown = append(unknown, name)
		}
	}
	if diff := cmp.Diff([]string(nil), unknown); diff != "" {
		t.Errorf("documented and not exposed (-none +these):\n%s", diff)
	}
}

// Every documented reason of a refusal is counted from the start, at 0: increase() does not see the first value of a series.
func TestEveryReasonIsCountedFromTheStart(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "Reasons of a refusal: ")
	paragraph, _, _ := strings.Cut(rest, "\n\n")
	reasons := distinct(regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(paragraph, -1))
	if len(reasons) < 12 {
		t.Fatalf("the page lists the reasons %v", reasons)
	}
	p := start(t, redistest.Start(t).URL(), newConfig(crm(newSink(t))))
	p.awaitReady()
	_, scrape := p.get("/metrics")
	var refused []string
	for _, m := range regexp.MustCompile(`requests_total\{reason="([a-z_]+)",result="refused"\} 0\n`).FindAllStringSubmatch(scrape, -1) {
		refused = append(refused, m[1])
	}
	slices.Sort(refused)
	if diff := cmp.Diff(reasons, refused); diff != "" {
		t.Errorf("reasons (-documented +counted):\n%s", diff)
	}
	for _, line := range []string{
		`requests_total{reason="",result="stored"} 0`, `events_stored_total{target="crm"} 0`, `events_dead_total{target="crm"} 0`,
		`filter_failures_total{target="crm"} 0`, `attempts_total{status="none",target="crm"} 0`, `token_used_total{token="previous"} 0`,
		`config_reloads_total{outcome="rejected"} 0`, `deduplication_decisions_total{decision="returned"} 0`,
		`oldest_event_age_seconds{lane="consent",target="crm"} 0`,
	} {
		if !strings.Contains(scrape, "\nheymarket_receiver_"+line+"\n") {
			t.Errorf("there is no %s", line)
		}
	}
}

func distinct(matches [][]string) []string {
	var names []string
	for _, m := range matches {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
