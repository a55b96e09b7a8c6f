package live

import (
	"context"
	"time"
)

// Step is the time between two scrapes of Whole, by its own clock. That clock runs faster than the real one, so that alerts that wait for minutes and
// rates over an hour have something to show; what is scraped is live.
const Step = 30 * time.Second

// Whole is a receiver under load and the operator, scraped into one database over which the chart's rules are evaluated.
type Whole struct {
	*Lab
	operator *Operator
	rules    *Rules
}

// OpenWhole starts both from the product's checkout, root. It takes redis-server, and KUBEBUILDER_ASSETS as OpenOperator does.
func OpenWhole(ctx context.Context, root, receiver string) (*Whole, error) {
	lab, err := Open(ctx, receiver)
	if err != nil {
		return nil, err
	}
	w := &Whole{Lab: lab}
	if err := w.start(ctx, root); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Whole) start(ctx context.Context, root string) (err error) {
	if w.operator, err = OpenOperator(ctx, root); err != nil {
		return err
	}
	w.cleanup(w.operator.Close)
	if err := w.operator.Webhook(ctx); err != nil {
		return err
	}
	file, err := ChartRules(root, w.dir)
	if err != nil {
		return err
	}
	w.rules, err = LoadRules(ctx, w.DB, file)
	return err
}

// Run sends events while it scrapes, n times at least an interval apart. In the middle third one of the targets is broken and one of the two receivers is
// not ready. It returns the first and the last scrape's time.
func (w *Whole) Run(ctx context.Context, n int, interval time.Duration) (from, to time.Time, err error) {
	loading, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.load(loading)
	}()
	defer func() {
		stop()
		<-done
	}()
	from = time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := range n {
		to = from.Add(time.Duration(i) * Step)
		if err := w.step(ctx, to, i > n/3 && i <= n*2/3); err != nil {
			return from, to, err
		}
		select {
		case <-ctx.Done():
			return from, to, ctx.Err()
		case <-tick.C:
		}
	}
	return from, to, nil
}

func (w *Whole) step(ctx context.Context, now time.Time, broken bool) error {
	ready := 2
	if broken {
		ready = 1
	}
	w.broken.Store(broken)
	if err := w.operator.Receivers(ctx, "staging", "support", ready); err != nil {
		return err
	}
	if _, err := w.Scrape(ctx, now); err != nil {
		return err
	}
	if _, err := w.operator.scrapeInto(ctx, w.DB, now); err != nil {
		return err
	}
	_, err := w.rules.At(ctx, now)
	return err
}
