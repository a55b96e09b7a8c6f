package stream_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
	"heymarket.dev/operator/internal/testenv"
)

// desk takes deliveries in as ingest does.
type desk struct {
	t      *testing.T
	store  *stream.Store
	limits stream.Limits
}

func (d desk) deliver(body string) stream.Appended {
	d.t.Helper()
	delivery, err := event.Decode([]byte(body))
	if err != nil {
		d.t.Fatal(err)
	}
	id := delivery.Identity("staging", "support")
	e := event.Event{ID: id.ID(), Type: delivery.Type, AcceptedAt: time.UnixMilli(1_700_000_000_000), Body: delivery.Body}
	got, err := d.store.Append(d.t.Context(), id, e, []string{target}, d.limits)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, ok := event.ParseID(got.ID); !ok {
		d.t.Fatalf("%q is no event id", got.ID)
	}
	return got
}

const (
	inForce = time.Hour        // the sender may still be retrying
	over    = time.Millisecond // it is not: the next delivery is later than that, or the test waits for it
)

// TestRepeatOrNews is the table of docs/ordering.md.
func TestRepeatOrNews(t *testing.T) {
	t.Parallel()
	consent := func(kind string) string {
		return `{"type":"target_` + kind + `","event_data":{"target":"+15550100","inbox":3}}`
	}
	message := func(status, updated string) string {
		return `{"type":"message_sent","event_data":{"id":1,"status":"` + status + `","updated":"` + updated + `"}}`
	}
	chat := func(kind, updated string, assigned int) string {
		return fmt.Sprintf(`{"type":"chat_%s","event_data":{"id":9,"updated":%q,"assigned":%d}}`, kind, updated, assigned)
	}
	const one, two, three = "2026-01-02T03:04:01Z", "2026-01-02T03:04:02Z", "2026-01-02T03:04:03Z"
	const n, r, p, l, w = event.New, event.Returned, event.Repeat, event.LateRepeat, event.OptInWithheld
	for name, tc := range map[string]struct {
		retries    time.Duration
		deliveries []string
		want       []event.Judgement
	}{
		"consent returns": {
			inForce,
			[]string{consent("opt_out"), consent("opt_in"), consent("opt_out"), consent("opt_in"), consent("opt_out")},
			[]event.Judgement{n, n, r, w, p},
		},
		"an opt-out is news after any opt-in": {
			inForce,
			[]string{consent("opt_out"), consent("double_opt_in"), consent("opt_out"), consent("double_opt_restricted"), consent("opt_out")},
			[]event.Judgement{n, n, r, n, r},
		},
		"an opt-in that no opt-out came after": {
			inForce, []string{consent("opt_in"), consent("double_opt_in"), consent("opt_in"), consent("opt_in")}, []event.Judgement{n, n, r, p},
		},
		"a status returns":               {inForce, []string{message("sent", ""), message("failed", ""), message("sent", ""), message("sent", "")}, []event.Judgement{n, n, r, p}},
		"a status returns, with a time":  {inForce, []string{message("sent", one), message("failed", two), message("sent", three)}, []event.Judgement{n, n, r}},
		"a status returns in one second": {inForce, []string{message("sent", one), message("failed", one), message("sent", one)}, []event.Judgement{n, n, r}},
		"a late repeat of a status":      {inForce, []string{message("sent", one), message("failed", two), message("sent", one), message("failed", two)}, []event.Judgement{n, n, l, p}},
		"a time that was not stored": {
			inForce,
			[]string{message("sent", two), message("failed", three), message("sent", one), message("sent", one), message("sent", two), message("failed", three)},
			[]event.Judgement{n, n, r, l, l, p},
		},
		"statuses out of order": {inForce, []string{message("failed", two), message("sent", one), message("failed", two), message("sent", one)}, []event.Judgement{n, n, p, l}},
		"two changes of a chat in one second": {
			inForce,
			[]string{chat("reassigned", one, 1), chat("reassigned", one, 2), chat("reassigned", one, 2), chat("reassigned", one, 1)},
			[]event.Judgement{n, r, p, r},
		},
		"a late repeat of a chat's event": {
			inForce, []string{chat("closed", one, 1), chat("opened", two, 1), chat("closed", one, 1), chat("closed", three, 1)}, []event.Judgement{n, n, p, n},
		},
		"a chat without times": {
			inForce, []string{chat("closed", "", 1), chat("opened", "", 1), chat("closed", "", 1), chat("closed", "", 1)}, []event.Judgement{n, n, r, p},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := desk{t, connect(t, redistest.Start(t), "a"), stream.Limits{Window: time.Hour, Retries: tc.retries, Backlog: 1000}}
			var got []event.Judgement
			ids := map[string]bool{}
			for _, body := range tc.deliveries {
				a := d.deliver(body)
				got = append(got, a.Judgement)
				if a.Stored() && ids[a.ID] {
					t.Errorf("%s is the id of two events", a.ID)
				}
				ids[a.ID] = true
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("judgements (-want +got):\n%s", diff)
			}
			for _, lease := range append(take(t, d.store.Queue(target, delivery.General, unordered), 10, 0), take(t, d.store.Queue(target, delivery.Consent, unordered), 10, 0)...) {
				if !ids[lease.ID] {
					t.Errorf("%s is stored, and the receiver reported another id", lease.ID)
				}
			}
		})
	}
}

// Once the sender can no longer retry, a returning opt-in is a new opt-in.
func TestAnOptInReturnsAfterTheRetryHorizon(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	d := desk{t, connect(t, r, "a"), stream.Limits{Window: time.Hour, Retries: over, Backlog: 1000}}
	in, out := `{"type":"target_opt_in","event_data":{"target":"+1"}}`, `{"type":"target_opt_out","event_data":{"target":"+1"}}`
	first := d.deliver(in)
	var number, at int64
	marker := r.MustDo("EVAL", "return redis.call('GET', redis.call('KEYS', '*}:d:*')[1])", "0")
	if _, err := fmt.Sscan(marker, &number, &at); err != nil || number != 1 || time.Since(time.UnixMilli(at)).Abs() > time.Minute {
		t.Errorf("the marker is %q, want the first of its recipient and the time in milliseconds: %v", marker, err)
	}
	d.deliver(out)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if got := d.deliver(in); got.Judgement == event.Returned {
			if got.ID == first.ID {
				t.Error("it came under the id of the first")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the opt-in is still withheld")
		}
	}
}

// Consent that returns after its marker has expired must not get an ID that targets have seen.
func TestConsentAfterTheWindowHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	d := desk{t, connect(t, r, "a"), limits}
	out := `{"type":"target_opt_out","event_data":{"target":"+1"}}`
	first := d.deliver(out)
	if ttl := r.MustDo("EVAL", "return redis.call('PTTL', redis.call('KEYS', '*}:s:*')[1])", "0"); len(ttl) < len("7776000000")-1 || len(ttl) > len("7776000000") {
		t.Errorf("the recipient is remembered for %s ms, want 90 days", ttl)
	}
	r.MustDo("EVAL", "for _, k in ipairs(redis.call('KEYS', '*}:d:*')) do redis.call('DEL', k) end", "0")
	if got := d.deliver(out); got.Judgement != event.New || got.ID == first.ID {
		t.Errorf("got %+v after %+v; want a new event with an id of its own", got, first)
	}
}

// Receivers of the previous release set markers that say "1" and keep no memory of subjects.
func TestMarkersOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	d := desk{t, connect(t, r, "a"), limits}
	old := func(body string) {
		delivery, err := event.Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		key := delivery.Key("staging", "support")
		var text strings.Builder
		for _, b := range key {
			fmt.Fprintf(&text, "\\%03d", b)
		}
		r.MustDo("EVAL", "redis.call('SET', 'hmw:{staging/support}:d:"+text.String()+"', '1', 'PX', 3600000)", "0")
	}
	message := func(status string) string {
		return `{"type":"message_sent","event_data":{"id":1,"status":"` + status + `"}}`
	}
	old(message("sent"))
	for _, want := range []struct {
		status string
		event.Judgement
	}{{"sent", event.Repeat}, {"failed", event.New}, {"sent", event.Returned}, {"sent", event.Repeat}} {
		if got := d.deliver(message(want.status)); got.Judgement != want.Judgement {
			t.Errorf("%s: %s, want %s", want.status, got.Judgement, want.Judgement)
		}
	}
	in, out := `{"type":"target_opt_in","event_data":{"target":"+1"}}`, `{"type":"target_opt_out","event_data":{"target":"+1"}}`
	old(in)
	if got := d.deliver(out); got.Judgement != event.New {
		t.Errorf("an opt-out after their opt-in: %s", got.Judgement)
	}
	if got := d.deliver(in); got.Judgement != event.OptInWithheld {
		t.Errorf("their opt-in again after an opt-out: %s, want it withheld", got.Judgement)
	}
	other := strings.ReplaceAll(out, "+1", "+2")
	old(other)
	for _, want := range []event.Judgement{event.Returned, event.Repeat} { // what they stored in between is not known
		if got := d.deliver(other); got.Judgement != want {
			t.Errorf("their opt-out again: %s, want %s", got.Judgement, want)
		}
	}
}

// TestInterleavings generates histories of one subject: real changes, each delivered once and then repeated, any
// number of times and at any later moment. HISTORIES is how many; `make histories` runs a hundred thousand.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	histories := testenv.Number(t, "HISTORIES", 3000, 1)
	seed := rand.Uint64()
	if text := os.Getenv("HISTORIES_SEED"); text != "" {
		_, _ = fmt.Sscan(text, &seed)
	}
	t.Logf("HISTORIES_SEED=%d", seed)
	s := connect(t, redistest.Start(t, "--appendonly", "no"), "a")
	for n := range histories {
		dice := rand.New(rand.NewPCG(seed, uint64(n)))
		h := history{
			desk: desk{t, s, stream.Limits{Window: time.Hour, Retries: inForce, Backlog: 1 << 40}}, dice: dice, number: n, ids: map[string]bool{},
		}
		if dice.IntN(2) == 0 {
			h.consent()
		} else {
			h.message(dice.IntN(2) == 0)
		}
		if t.Failed() {
			t.Fatalf("history %d:\n%s", n, strings.Join(h.log, "\n"))
		}
	}
}

// history is a sequence of events of one subject.
type history struct {
	desk
	dice   *rand.Rand
	number int
	log    []string
	ids    map[string]bool
}

// take delivers a body and holds what is true of every delivery.
func (h *history) take(what, body string) stream.Appended {
	got := h.deliver(body)
	h.log = append(h.log, fmt.Sprintf("%s: %s %s", what, got.Judgement, got.ID))
	if got.Stored() {
		if h.ids[got.ID] {
			h.t.Errorf("two events have one id: %s", got.ID)
		}
		h.ids[got.ID] = true
	}
	return got
}

// consent: whatever is repeated when, a recipient who opted out last is opted out at the target, every opt-out after a
// stored opt-in is stored, and what repeats the last event is not.
func (h *history) consent() {
	kinds := []string{"opt_out", "opt_in", "double_opt_in", "double_opt_restricted"}
	out := func(kind string) bool { return kind == "opt_out" || kind == "double_opt_restricted" }
	body := func(kind string) string {
		return fmt.Sprintf(`{"type":"target_%s","event_data":{"target":"+%d"}}`, kind, h.number)
	}
	var happened []string
	last := "" // seen by the target
	for range 2 + h.dice.IntN(8) {
		what, kind := "event", kinds[h.dice.IntN(len(kinds))]
		if len(happened) > 0 && h.dice.IntN(2) == 0 {
			what, kind = "repeat", happened[h.dice.IntN(len(happened))]
		} else {
			happened = append(happened, kind)
		}
		got := h.take(what+" "+kind, body(kind))
		switch {
		case kind == last && got.Stored():
			h.t.Errorf("a repeat of the last event was stored")
		case out(kind) && kind != last && !got.Stored():
			h.t.Errorf("an opt-out was dropped while the target knew of %q", last)
		case !out(kind) && out(last) && slices.Contains(happened[:max(0, len(happened)-1)], kind) && got.Stored():
			h.t.Errorf("an opt-in from before the opt-out was stored")
		}
		if got.Stored() {
			last = kind
		}
		if out(happened[len(happened)-1]) && !out(last) && what == "event" {
			h.t.Errorf("the recipient opted out, and the target knows of %q", last)
		}
	}
}

// message: every change of the status is stored, once. With times that differ no repeat ever is, whenever it comes;
// without them no repeat of the last is.
func (h *history) message(timed bool) {
	statuses := []string{"queued", "sent", "failed"}
	var happened []string // bodies, in the order in which they happened
	last, status := "", ""
	for second := range 2 + h.dice.IntN(8) {
		if len(happened) > 0 && h.dice.IntN(2) == 0 {
			body := happened[h.dice.IntN(len(happened))]
			got := h.take("repeat "+body, body)
			if got.Stored() && (timed || body == last) {
				h.t.Errorf("a repeat was stored")
			}
			if got.Stored() {
				last = body
			}
			continue
		}
		next := statuses[h.dice.IntN(len(statuses))]
		if next == status {
			continue
		}
		status = next
		updated := ""
		if timed {
			updated = fmt.Sprintf("2026-01-02T03:04:%02dZ", second)
		}
		body := fmt.Sprintf(`{"type":"message_sent","event_data":{"id":%d,"status":%q,"updated":%q}}`, h.number+1, status, updated)
		got := h.take("event "+body, body)
		if !got.Stored() && body != last {
			h.t.Errorf("a status that the target does not know of was dropped")
		}
		happened, last = append(happened, body), body
	}
}
