package delivery_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
)

func TestErrorsOfATarget(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	var (
		good        = delivery.Outcome{Status: http.StatusNoContent}
		unavailable = delivery.Outcome{Status: http.StatusServiceUnavailable}
		timeout     = delivery.Outcome{Err: errors.New("late"), Class: contract.ErrorTimeout}
	)
	type attempt struct {
		at time.Duration
		delivery.Outcome
	}
	since := func(class contract.ErrorClass, at time.Duration) *contract.TargetError {
		return &contract.TargetError{Class: class, Since: begin.Add(at).Truncate(time.Minute)}
	}
	for name, tc := range map[string]struct {
		attempts []attempt
		at       time.Duration
		pending  bool
		want     *contract.TargetError
	}{
		"none":                              {nil, 0, true, nil},
		"only good ones":                    {[]attempt{{0, good}}, 0, true, nil},
		"the first":                         {[]attempt{{0, timeout}}, time.Second, true, since(contract.ErrorTimeout, 0)},
		"rare retries":                      {[]attempt{{0, unavailable}, {10 * time.Minute, unavailable}}, 19 * time.Minute, true, since(contract.ErrorServer, 0)},
		"another class":                     {[]attempt{{0, timeout}, {2 * time.Minute, unavailable}}, 3 * time.Minute, true, since(contract.ErrorServer, 2*time.Minute)},
		"now and then":                      {[]attempt{{0, unavailable}, {time.Second, good}, {4 * time.Minute, unavailable}, {5 * time.Minute, good}}, 8 * time.Minute, true, since(contract.ErrorServer, 0)},
		"recovered":                         {[]attempt{{0, unavailable}, {time.Second, good}}, 6 * time.Minute, true, nil},
		"recovered, and failing":            {[]attempt{{0, unavailable}, {time.Second, good}, {9 * time.Minute, unavailable}}, 9 * time.Minute, true, since(contract.ErrorServer, 9*time.Minute)},
		"failing again, and long ago":       {[]attempt{{0, unavailable}, {time.Second, good}, {2 * time.Second, unavailable}}, 8 * time.Minute, true, since(contract.ErrorServer, 0)},
		"delivered by another":              {[]attempt{{0, unavailable}}, 6 * time.Minute, false, nil},
		"the same in the last moment":       {[]attempt{{0, unavailable}, {time.Hour, unavailable}}, time.Hour, true, since(contract.ErrorServer, 0)},
		"recovered for as long as is quiet": {[]attempt{{0, unavailable}, {time.Second, good}, {5 * time.Minute, unavailable}}, 5 * time.Minute, true, since(contract.ErrorServer, 0)},
		"quiet from the next moment on":     {[]attempt{{0, unavailable}, {time.Second, good}}, 5 * time.Minute, true, since(contract.ErrorServer, 0)},
		"the same after a long time":        {[]attempt{{0, unavailable}, {3 * time.Hour, unavailable}}, 3 * time.Hour, true, since(contract.ErrorServer, 3*time.Hour)},
	} {
		var h delivery.Health
		for _, a := range tc.attempts {
			h.Attempted("crm", a.Outcome, begin.Add(a.at))
		}
		if diff := cmp.Diff(tc.want, h.Error("crm", tc.pending, begin.Add(tc.at))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLastDelivered(t *testing.T) {
	t.Parallel()
	var h delivery.Health
	if at := h.LastDelivered("crm"); !at.IsZero() {
		t.Errorf("before the first delivery it is %s", at)
	}
	begin := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	for _, step := range []struct{ at, want time.Time }{
		{begin, begin.Add(-3 * time.Second)},
		{begin.Add(50 * time.Second), begin.Add(-3 * time.Second)},
		{begin.Add(time.Minute), begin.Add(57 * time.Second)},
		{begin, begin.Add(57 * time.Second)}, // of two that end together, the later one counts
	} {
		h.Delivered("crm", step.at)
		if got := h.LastDelivered("crm"); !got.Equal(step.want) {
			t.Errorf("after a delivery at %s it is %s, want %s", step.at, got, step.want)
		}
	}
	if at := h.LastDelivered("erp"); !at.IsZero() {
		t.Errorf("another target's is %s", at)
	}
}
