package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"heymarket.dev/operator/internal/controller/desired"
)

const (
	// rolloutsPeriod is how often places that have become free are given away, and how long a count of them holds.
	rolloutsPeriod = time.Second
	// admissionPatience is how long a roll-out that was admitted may stay out of sight of the caches. After that its place
	// is free again: the write has failed, or the resource is gone.
	admissionPatience = time.Minute
)

// Rollouts lets a limited number of receivers roll at a time when a new version of the operator asks all of them to.
//
// A place is taken while a Deployment brings up Pods of the present image. What is known comes from the caches, so it
// survives a restart of the operator; only what was admitted and is not seen yet is remembered.
//
// A roll-out that is stuck keeps its place unless another one has succeeded for it: if the new version is at fault, the
// first wave is stuck and nothing follows it, and what runs goes on running; if a few resources are at fault, a quota that
// is used up for example, they do not hold up the others. So nothing has to be counted in minutes.
type Rollouts struct {
	limit int
	image string
	// deployments is a cache of the operator's children.
	deployments client.Reader
	// period is rolloutsPeriod, or a test's.
	period time.Duration

	mu sync.Mutex
	// admitted are those that the count does not show yet.
	admitted map[client.ObjectKey]admission
	// waiting are the Deployments that were turned away, the first one first.
	waiting []client.ObjectKey
	count   rolloutCount
	counted time.Time
}

var _ source.Source = (*Rollouts)(nil)

// admission is when a Deployment was let in, and of which generation it was: of a later one, it is rolling.
type admission struct {
	generation int64
	at         time.Time
}

// newRollouts returns Rollouts for receivers of an image. A limit of 0 means none.
func newRollouts(limit int, image string, deployments client.Reader) *Rollouts {
	return &Rollouts{limit: limit, image: image, deployments: deployments, period: rolloutsPeriod, admitted: map[client.ObjectKey]admission{}, count: rolloutCount{rolling: map[string]int{}}}
}

// rolloutCount counts the Deployments of the present image.
type rolloutCount struct {
	// rolling counts them by namespace.
	rolling     map[string]int
	stuck, done int
}

// Admit says whether the Deployment may roll now. One that may not is woken when it is its turn to ask again.
func (r *Rollouts) Admit(ctx context.Context, d *appsv1.Deployment) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := client.ObjectKeyFromObject(d)
	if err := r.recount(ctx); err != nil {
		return false, err
	}
	_, again := r.admitted[key]
	if !again && r.free(key.Namespace) <= 0 {
		if !slices.Contains(r.waiting, key) {
			r.waiting = append(r.waiting, key)
		}
		return false, nil
	}
	r.admitted[key] = admission{generation: d.Generation, at: time.Now()}
	r.waiting = slices.DeleteFunc(r.waiting, func(k client.ObjectKey) bool { return k == key })
	return true, nil
}

// free returns how many places there are for a namespace. What the others hold of more than half the places each is not
// counted, so that Deployments which never finish in one namespace leave places to the others.
func (r *Rollouts) free(namespace string) int {
	held := maps.Clone(r.count.rolling)
	for key := range r.admitted {
		held[key.Namespace]++
	}
	free := r.limit - max(0, r.count.stuck-r.count.done)
	for holder, n := range held {
		if holder != namespace {
			n = min(n, (r.limit+1)/2)
		}
		free -= n
	}
	return free
}

// recount counts anew if the last count is too old to go by.
func (r *Rollouts) recount(ctx context.Context) error {
	if time.Since(r.counted) < r.period {
		return nil
	}
	var all appsv1.DeploymentList
	if err := r.deployments.List(ctx, &all, client.UnsafeDisableDeepCopy, client.MatchingLabels{desired.LabelManagedBy: desired.ManagedByValue}); err != nil {
		return fmt.Errorf("count roll-outs: %w", err)
	}
	r.count = rolloutCount{rolling: map[string]int{}}
	for i := range all.Items {
		d := &all.Items[i]
		if a, admitted := r.admitted[client.ObjectKeyFromObject(d)]; admitted && d.Generation > a.generation {
			delete(r.admitted, client.ObjectKeyFromObject(d))
		}
		switch {
		case receiverImage(d) != r.image:
		case stuck(d):
			r.count.stuck++
		case rolledOut(d) && wasAvailable(d):
			r.count.done++
		default:
			r.count.rolling[d.Namespace]++
		}
	}
	maps.DeleteFunc(r.admitted, func(_ client.ObjectKey, a admission) bool { return time.Since(a.at) > admissionPatience })
	r.counted = time.Now()
	return nil
}

// receiverImage is the image that the Deployment's Pods are to run.
func receiverImage(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == desired.ContainerName {
			return c.Image
		}
	}
	return ""
}

// Start implements source.Source: it wakes those that wait when places become free.
func (r *Rollouts) Start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	go func() {
		logger := log.FromContext(ctx).WithName("roll-outs")
		told := ""
		for sleep(ctx, r.period) {
			next, err := r.next(ctx)
			if err != nil {
				continue // Only a cache that is shut down fails.
			}
			for _, key := range next {
				queue.Add(reconcile.Request{NamespacedName: key})
			}
			told = r.tell(logger, told)
		}
	}()
	return nil
}

func (r *Rollouts) String() string { return "places for roll-outs" }

// next takes as many of those that wait as there are free places. They ask for theirs themselves.
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
		next = append(next, client.ObjectKey{Namespace: k.Namespace, Name: desired.WebhookOfReceiver(k.Name)})
		return true
	})
	return next, nil
}

// tell logs once that receivers wait, that the roll-out has stopped, and that none waits any more.
func (r *Rollouts) tell(logger logr.Logger, told string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := "moving"
	switch {
	case len(r.waiting) == 0 && told == "":
		return ""
	case len(r.waiting) == 0:
		now = ""
	case len(r.count.rolling) == 0 && len(r.admitted) == 0 && r.free("") <= 0:
		now = "stopped"
	}
	switch {
	case now == told:
	case now == "":
		logger.Info("No receiver waits any more for its roll-out")
	case now == "moving":
		logger.Info("Receivers of another version wait for their roll-out", "waiting", len(r.waiting), "atATime", r.limit)
	case now == "stopped":
		logger.Info("The roll-out has stopped: receivers of the new version do not become ready. Those that run go on; see the HeymarketWebhooks with the reason RolloutStuck, "+
			"and correct the operator's version or what keeps their Pods", "stuck", r.count.stuck, "waiting", len(r.waiting))
	}
	return now
}
