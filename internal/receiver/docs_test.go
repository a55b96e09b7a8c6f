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

// TestEveryMetricIsDocumented holds the page on metrics against a live scrape, both ways.
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
	rare := []string{"heymarket_receiver_filter_failures_total"}
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

func distinct(matches [][]string) []string {
	var names []string
	for _, m := range matches {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
