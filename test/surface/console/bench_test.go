package console_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/plugin"
	"heymarket.dev/operator/internal/receiver/redistest"
)

// letters is how many dead letters the pages are measured with, the most that one burst of test events makes.
const letters = "100000"

// BenchmarkDeadLetters measures the pages of dead letters, with 100,000 of them in a real Redis, from the request to the last byte:
//
//	go -C test test ./surface/console -run - -bench DeadLetters -benchtime 50x -timeout 20m
func BenchmarkDeadLetters(b *testing.B) {
	redis := redistest.Start(b)
	s := start(b, "--redis-url", redis.URL())
	s.program(`[{"status": 422, "times": 1000000}]`)
	command := plugin.Command("test")
	command.SetOut(io.Discard)
	command.SetArgs([]string{"send", "support", "chat_closed", "--dev", "--burst", letters})
	if err := command.ExecuteContext(b.Context()); err != nil {
		b.Fatal(err)
	}
	jar, _ := cookiejar.New(nil) // it has no error
	client := &http.Client{Jar: jar}
	get := func(address string) string {
		response, err := client.Get(address)
		if err != nil {
			b.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(response.Status, err, string(text))
		}
		return string(text)
	}
	get(s.address)
	root, _, _ := strings.Cut(s.address, "/open/")
	base := root + "/webhooks/support/dead/crm"
	for !strings.Contains(get(base), ">100,000<") {
		<-time.After(time.Second)
	}
	middle := next(get(base))
	for range 1000 {
		if after := next(get(base + "/rows?after=" + middle)); after != "" {
			middle = after
		}
	}
	for name, path := range map[string]string{
		"page": "", "rows in the middle": "/rows?after=" + middle, "groups": "/groups",
		"filtered page": "?reason=refused", "filtered rows": "/rows?reason=refused", "filtered count": "/count?reason=refused",
		"search that finds nothing": "/rows?text=nosuchtext",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				get(base + path)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/page")
		})
	}
}

// next is the entry behind which the next page begins.
func next(page string) string {
	_, rest, _ := strings.Cut(page, "after=")
	entry, _, _ := strings.Cut(rest, `"`)
	return entry
}
