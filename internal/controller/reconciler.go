// Package controller turns HeymarketWebhooks into running receivers. This file contains one reconcile from start to end; each
// step has its own file.
package controller

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/source"
)

// FieldOwner is the field manager of everything that the operator writes.
const FieldOwner = condition.FieldOwner

// The rights that the reconciler needs; config/rbac/role.yaml is generated from these lines. Server-side apply that
// creates an object needs both create and patch.
//
// +kubebuilder:rbac:groups=heymarket.dev,resources=heymarketwebhooks,verbs=list;watch;patch
// +kubebuilder:rbac:groups=heymarket.dev,resources=heymarketwebhooks/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets;services,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses;networkpolicies,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=httproutes,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=gateway.networking.k8s.io,resources=gateways,verbs=get
// +kubebuilder:rbac:groups=keda.sh,resources=scaledobjects,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=autoscaling,resources=horizontalpodautoscalers,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create
//
// In the operator's own namespace: leader election, its events, and its Pod, from which cmd/manager reads its image.
//
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=heymarket-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",namespace=heymarket-system,resources=pods,verbs=get
// +kubebuilder:rbac:groups="",namespace=heymarket-system,resources=events,verbs=create;patch

// Reconciler updates the children of one HeymarketWebhook to match its spec, and its status to match the observed state.
type Reconciler struct {
	// Client reads from caches and writes. Its caches hold the children by the label contract.LabelManagedBy.
	Client client.Client
	// Live reads from the API server: users' Secrets, which are never cached, and children that are not in the caches.
	Live client.Reader
	// Events records Kubernetes Events on the resource.
	Events events.EventRecorder
	// Pods queries receiver Pods for the configuration that they serve.
	Pods PodStatus
	// Rollouts limits concurrent rollouts during an upgrade; nil means no limit.
	Rollouts *source.Rollouts
	// Claimants returns the HeymarketWebhooks that claim a host and path, see Settings.claims.
	Claimants func(ctx context.Context, claim string) ([]*v1alpha1.HeymarketWebhook, error)
	// Referrers returns the HeymarketWebhooks of a namespace that refer to a Secret.
	Referrers func(ctx context.Context, namespace, secret string) ([]*v1alpha1.HeymarketWebhook, error)
	// Redis returns the connection settings of the shared Redis, to pass to receivers.
	Redis func() desired.SharedRedis
	// Users creates a Redis user for each namespace; nil means that receivers get the operator's credential.
	Users RedisUsers
	// Probes holds the results of probing public URLs; nil means that there are none.
	Probes *probes
	// OptionalKinds knows the kinds that not every cluster serves.
	OptionalKinds OptionalKinds
	// Settings are the operator's own.
	Settings Settings

	applied appliedMemory
	pace    statusPace
}

var _ reconcile.ObjectReconciler[*v1alpha1.HeymarketWebhook] = (*Reconciler)(nil)

// Reconcile updates one resource. A user's mistake becomes a condition and waits for a watch; a failure of the cluster
// becomes a returned error and a backoff.
func (r *Reconciler) Reconcile(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (reconcile.Result, error) {
	if !hook.DeletionTimestamp.IsZero() {
		return r.finalize(ctx, hook) // The garbage collector removes the children.
	}
	if r.awaitsRedisUser(hook) {
		return reconcile.Result{RequeueAfter: redisUserAgain}, nil
	}
	finalizerErr, err := r.keepFinalizer(ctx, hook)
	if err != nil {
		return requeueOnConflict(err)
	}
	facts, writes, err := r.write(ctx, hook, finalizerErr, nameTaken(hook))
	if apierrors.IsConflict(err) { // A child exists that the caches lack. Those before it in the table have been applied, and stay.
		facts, writes, err = r.write(ctx, hook, finalizerErr, true)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	writes, err = r.prune(ctx, facts, writes)
	if err != nil {
		return reconcile.Result{}, err
	}
	facts, err = r.observe(ctx, facts)
	if err != nil {
		return reconcile.Result{}, err
	}
	return r.report(ctx, facts, writes)
}

// write reads all facts and applies the children that differ. live is that of readChild.
func (r *Reconciler) write(ctx context.Context, hook *v1alpha1.HeymarketWebhook, finalizerErr error, live bool) (condition.Facts, condition.Writes, error) {
	facts, err := r.resolve(ctx, hook, finalizerErr, live)
	if err != nil {
		return facts, condition.Writes{}, err
	}
	facts, err = r.gateUpgrade(ctx, build(facts))
	if err != nil {
		return facts, condition.Writes{}, err
	}
	writes, err := r.apply(ctx, facts)
	return facts, writes, err
}
