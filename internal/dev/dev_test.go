package dev_test

import (
	"log/slog"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/dev"
	"heymarket.dev/operator/internal/receiver/event"
)

const quickstart = "../../examples/quickstart"

func manifest(t *testing.T, path, stdin string) *dev.Manifest {
	t.Helper()
	m, err := dev.ReadManifest(t.Context(), path, strings.NewReader(stdin), "default", "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func start(t *testing.T, o dev.Options) *dev.Running {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.DiscardHandler
	}
	r, err := dev.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// The quickstart, in one process: each request with its answer and with what the target got of it. This is what `make try` shows.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	r := start(t, dev.Options{Manifest: manifest(t, quickstart, ""), Echo: true})
	if !r.InMemory || len(r.MadeTokens) > 0 || r.Token != "quickstart-token-for-trying-out" {
		t.Errorf("in memory: %t, made tokens: %v", r.InMemory, r.MadeTokens)
	}
	rows, err := r.Play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	for _, row := range rows {
		repeat := strings.HasSuffix(row.Says, ", again")
		rejected := strings.HasPrefix(row.Says, "with ") || strings.HasPrefix(row.Says, "a body")
		switch {
		case rejected && (row.Status/100 != 4 || row.Sentence == "" || len(row.Received) != 0):
			t.Errorf("%s: %+v", row.Says, row)
		case repeat && (row.Status != 200 || row.Result != "duplicate" || len(row.Received) != 0):
			t.Errorf("%s: %+v", row.Says, row)
		case !repeat && !rejected:
			stored[row.Says] = true
			if row.Result != "stored" || len(row.Received) != 1 {
				t.Fatalf("%s: %+v", row.Says, row)
			}
			got := row.Received[0]
			if got.Path != "/crm" || strings.Contains(got.Body, r.Token) || !strings.Contains(got.Body, `"`+row.Says+`"`) {
				t.Errorf("%s: the target got %+v", row.Says, got)
			}
		}
	}
	for _, eventType := range event.Types() {
		if !stored[eventType] {
			t.Errorf("no event of type %s was sent", eventType)
		}
	}
	s, err := r.Status(t.Context())
	if err != nil || s.Durable || s.Redis != "ok" || len(s.Problems) != 1 || s.Problems[0] != contract.RedisForgets {
		t.Errorf("a Redis in memory is reported as %+v, %v", s, err)
	}
}
