package logs

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/ingest"
)

type uncounted struct{}

func (uncounted) Answered(ingest.Report) {}

// slog encodes a fraction by reflection, which costs as much as the rest of the line, and there is one per request.
func TestALineHasNoFractions(t *testing.T) {
	var out bytes.Buffer
	log, flush := New(&out, slog.LevelInfo)
	Requests{Log: log, Next: uncounted{}}.Answered(ingest.Report{
		Result: ingest.Stored, Status: 200, Took: 1234567 * time.Nanosecond, Type: "message_recieved", Webhook: 41872, EventID: "evt_a",
	})
	flush()
	read := json.NewDecoder(&out)
	read.UseNumber()
	var fields map[string]any
	if err := read.Decode(&fields); err != nil {
		t.Fatal(err)
	}
	if took, _ := fields["took_us"].(json.Number); took != "1234" {
		t.Errorf("took_us is %v, want 1234", fields["took_us"])
	}
	for name, value := range fields {
		if number, ok := value.(json.Number); ok && strings.ContainsAny(number.String(), ".eE") {
			t.Errorf("%s has a fraction: %s", name, number)
		}
	}
}
