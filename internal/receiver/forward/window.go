package forward

import "time"

// The window by which a target is judged: the outcomes of the last windowAge, of these the latest windowMost, but at
// least the latest windowLeast, so that a target with few events is judged as well.
const (
	windowAge   = 10 * time.Second
	windowLeast = 10
	windowMost  = 100
	// failingShare is the percentage of failures beyond which a target counts as failing.
	failingShare = 80
)

// window holds the latest outcomes. The zero value is empty.
type window struct {
	outcomes [windowMost]outcome
	next, n  int // the position of the next one, and how many there are
}

type outcome struct {
	at     time.Time
	failed bool
}

func (w *window) add(failed bool, now time.Time) {
	w.outcomes[w.next] = outcome{now, failed}
	w.next = (w.next + 1) % windowMost
	w.n = min(w.n+1, windowMost)
}

// failing reports whether most outcomes in the window are failures.
func (w *window) failing(now time.Time) bool {
	seen, failed := 0, 0
	for seen < w.n {
		o := w.outcomes[(w.next-1-seen+2*windowMost)%windowMost]
		if seen >= windowLeast && now.Sub(o.at) > windowAge {
			break
		}
		seen++
		if o.failed {
			failed++
		}
	}
	return seen >= windowLeast && failed*100 > failingShare*seen
}
