package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// rolloutsPeriod is how often free slots are assigned, and how long a count of them is valid.
	rolloutsPeriod = time.Second
	// admissionTimeout is how long an admitted rollout may be missing from the caches. After that its slot is free again: the
	// write has failed, or the resource has been deleted.
	admissionTimeout = time.Minute
	// stallTimeout is how long all slots may be taken before an extra one is created for a namespace that has none.
	stallTimeout = 5 * time.Minute
)

// Rollouts limits how many receivers roll out at a time when a new version of the operator changes all of them.
//
// A slot is taken while a Deployment starts Pods of the current image. Its state comes from the caches, so it survives a
// restart of the operator; only admitted rollouts that are not visible yet are remembered.
//
// A stuck rollout keeps its slot unless another one has succeeded for it: if the new version is faulty, the first wave is
// stuck, and the other receivers keep running; if a few resources are at fault, for example because of an exhausted quota,
// they do not block the others.
//
// Namespaces take turns. Slots held by rollouts that never finish do not count in full against other namespaces, and if no
// slot becomes free for stallTimeout, an extra one is created for the namespace that has waited longest and has none, and
// then for the next one.
type Rollouts struct {
	limit int
	image string
	// deployments is a cache of the operator's children.
	deployments client.Reader
	// Period is how often free slots are assigned, and how long a count of them is valid; a second by default.
	Period time.Duration

	mu sync.Mutex
	// admitted are the rollouts that the count does not include yet.
	admitted map[client.ObjectKey]admission
	// waiting are the Deployments without a slot, in the order in which they will get one.
	waiting []client.ObjectKey
	// moved is when a slot was last assigned, or when the first Deployment started to wait.
	moved time.Time
	// turn is the Deployment for which an extra slot was created, and turnTaken reports that its rollout has been seen.
	turn      client.ObjectKey
	turnTaken bool
	count     rolloutCount
	counted   time.Time
}

var _ source.Source = (*Rollouts)(nil)

// admission is when a Deployment was admitted, and its generation: with a later one, it is rolling out.
type admission struct {
	generation int64
	at         time.Time
}

// NewRollouts returns Rollouts for receivers of an image. A limit of 0 means no limit.
func NewRollouts(limit int, image string, deployments client.Reader) *Rollouts {
	return &Rollouts{limit: limit, image: image, deployments: deployments, Period: rolloutsPeriod, admitted: map[client.ObjectKey]admission{}, count: newRolloutCount()}
}

// rolloutCount counts the Deployments of the current image.
type rolloutCount struct {
	// rolling and stuck count them by namespace.
	rolling, stuck map[string]int
	done           int
}

func newRolloutCount() rolloutCount {
	return rolloutCount{rolling: map[string]int{}, stuck: map[string]int{}}
}

// allStuck counts the stuck Deployments of all namespaces.
func (c rolloutCount) allStuck() (n int) {
	for _, stuck := range c.stuck {
		n += stuck
	}
	return n
}

// Admit reports whether the Deployment may roll out now. Otherwise it is woken when it is its turn to ask again.
func (r *Rollouts) Admit(ctx context.Context, d *appsv1.Deployment) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(d)
	if err := r.recount(ctx); err != nil {
		return false, err
	}
	_, again := r.admitted[key]
	if !again && key != r.turn && r.free(key.Namespace) <= 0 {
		r.wait(key)
		return false, nil
	}
	r.admitted[key] = admission{generation: d.Generation, at: time.Now()}
	r.waiting = slices.DeleteFunc(r.waiting, func(k client.ObjectKey) bool { return k == key })
	r.moved = time.Now()
	return true, nil
}

// wait queues a Deployment, taking turns between namespaces: the first of each namespace precedes the second of any, and so
// on.
func (r *Rollouts) wait(key client.ObjectKey) {
	if slices.Contains(r.waiting, key) {
		return
	}
	if len(r.waiting) == 0 {
		r.moved = time.Now()
	}
	before := map[string]int{}
	for _, k := range r.waiting {
		before[k.Namespace]++
	}
	rank, at := before[key.Namespace], 0
	clear(before)
	for at < len(r.waiting) && before[r.waiting[at].Namespace] <= rank {
		before[r.waiting[at].Namespace]++
		at++
	}
	r.waiting = slices.Insert(r.waiting, at, key)
}

// free returns how many slots there are for a namespace. Slots of another namespace beyond half of all are not counted, so
// that Deployments which never finish in one namespace leave slots to the others.
func (r *Rollouts) free(namespace string) int {
	free, stuck := r.limit, -r.count.done
	for holder, n := range r.held() {
		free -= r.counts(namespace, holder, n)
	}
	for holder, n := range r.count.stuck {
		stuck += r.counts(namespace, holder, n)
	}
	return free - max(0, stuck)
}

// held counts, by namespace, the Deployments that are rolling out or may start to.
func (r *Rollouts) held() map[string]int {
	held := maps.Clone(r.count.rolling)
	for key := range r.admitted {
		held[key.Namespace]++
	}
	return held
}

// counts returns how many of the n slots that a namespace holds count against another one.
func (r *Rollouts) counts(against, holder string, n int) int {
	if holder == against {
		return n
	}
	return min(n, (r.limit+1)/2)
}

// recount updates the count if it is too old.
func (r *Rollouts) recount(ctx context.Context) error {
	if time.Since(r.counted) < r.Period {
		return nil
	}
	var all appsv1.DeploymentList
	if err := r.deployments.List(ctx, &all, client.UnsafeDisableDeepCopy, client.MatchingLabels{contract.LabelManagedBy: contract.ManagedByValue}); err != nil {
		return fmt.Errorf("count rollouts: %w", err)
	}
	r.count = newRolloutCount()
	for i := range all.Items {
		d := &all.Items[i]
		key := client.ObjectKeyFromObject(d)
		if a, admitted := r.admitted[key]; admitted && d.Generation > a.generation {
			delete(r.admitted, key)
			r.turnTaken = r.turnTaken || key == r.turn
		}
		switch {
		case desired.ReceiverImage(d) != r.image:
		case condition.Stuck(d):
			r.count.stuck[d.Namespace]++
		case condition.RolledOut(d) && condition.WasAvailable(d):
			r.count.done++
			if key == r.turn && r.turnTaken {
				r.turn, r.moved = client.ObjectKey{}, time.Time{} // The next turn need not wait.
			}
		default:
			r.count.rolling[d.Namespace]++
		}
	}
	maps.DeleteFunc(r.admitted, func(_ client.ObjectKey, a admission) bool { return time.Since(a.at) > admissionTimeout })
	r.counted = time.Now()
	return nil
}

// Start implements source.Source: it wakes waiting Deployments when slots become free.
func (r *Rollouts) Start(ctx context.Context, q queue) error {
	go func() {
		logger := log.FromContext(ctx).WithName("roll-outs")
		logged := ""
		for sleep(ctx, r.Period) {
			next, err := r.next(ctx)
			if err != nil {
				continue // Fails only if the cache is shut down.
			}
			for _, key := range next {
				q.Add(reconcile.Request{NamespacedName: key})
			}
			logged = r.logProgress(logger, logged)
		}
	}()
	return nil
}

func (r *Rollouts) String() string { return "places for roll-outs" }

// next returns as many waiting Deployments as there are free slots. They request their slots themselves.
func (r *Rollouts) next(ctx context.Context) ([]client.ObjectKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return nil, nil
	}
	if err := r.recount(ctx); err != nil {
		return nil, err
	}
	var next []client.ObjectKey
	given := map[string]int{}
	r.waiting = slices.DeleteFunc(r.waiting, func(k client.ObjectKey) bool {
		if len(next) >= r.limit || given[k.Namespace] >= r.free(k.Namespace) {
			return false
		}
		given[k.Namespace]++
		next = append(next, webhookOfDeployment(k))
		return true
	})
	if len(next) == 0 && time.Since(r.moved) > stallTimeout {
		next = r.makePlace()
	}
	return next, nil
}

// makePlace creates an extra slot for the first waiting namespace that has none.
func (r *Rollouts) makePlace() []client.ObjectKey {
	held := r.held()
	first := slices.IndexFunc(r.waiting, func(k client.ObjectKey) bool { return held[k.Namespace]+r.count.stuck[k.Namespace] == 0 })
	if first < 0 {
		return nil
	}
	r.turn, r.turnTaken, r.moved = r.waiting[first], false, time.Now()
	r.waiting = slices.Delete(r.waiting, first, first+1)
	return []client.ObjectKey{webhookOfDeployment(r.turn)}
}

func webhookOfDeployment(key client.ObjectKey) client.ObjectKey {
	return client.ObjectKey{Namespace: key.Namespace, Name: desired.WebhookOfReceiver(key.Name)}
}

// logProgress logs once that receivers wait, that the rollout has stalled, and that none waits any more.
func (r *Rollouts) logProgress(logger logr.Logger, logged string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := "moving"
	switch {
	case len(r.waiting) == 0 && logged == "":
		return ""
	case len(r.waiting) == 0:
		now = ""
	case len(r.count.rolling) == 0 && len(r.admitted) == 0 && r.free("") <= 0:
		now = "stopped"
	}
	switch {
	case now == logged:
	case now == "":
		logger.Info("No receiver is waiting for its rollout any more")
	case now == "moving":
		logger.Info("Receivers of another version are waiting for their rollout", "waiting", len(r.waiting), "atATime", r.limit)
	case now == "stopped":
		logger.Info("The rollout has stopped: receivers of the new version do not become ready. Running receivers are kept; see the HeymarketWebhooks with the reason RolloutStuck, "+
			"then fix what stops their Pods, or change the operator's version", "stuck", r.count.allStuck(), "waiting", len(r.waiting))
	}
	return now
}
