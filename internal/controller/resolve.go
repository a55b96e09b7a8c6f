package controller

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// verdict is the outcome of one condition.
type verdict struct {
	ok              bool
	reason, message string
}

// round is what one reconcile knows.
type round struct {
	hook     *v1alpha1.HeymarketWebhook
	children desired.Children
	// input of the children. Its Segment is empty if none is in use and none may be made up.
	input desired.Input
	// refusal is the first mistake of a person that was found, nil if the resource is accepted.
	refusal *verdict
	// confidential are the values that no target may get.
	confidential desired.Confidential
	// missing is the first thing that the resource refers to and that is not there, without which a receiver can work
	// all the same; nil if there is none.
	missing *verdict
	// hint names the first secret that seems to hold more than its value, as a sentence that follows another; empty: none does.
	hint string
	// failure is the first child that the API server could not store, nil if there is none.
	failure *failure
	// leftover is a child that is no longer wanted and that the API server does not remove, nil if there is none.
	leftover *failure
	// repeated is a child that another manager keeps changing back, nil if there is none, and nextWrite is when it may be
	// written again.
	repeated  *failure
	nextWrite time.Duration
	// rival is the resource that keeps the host and path which this one claims, nil if there is none.
	rival *v1alpha1.HeymarketWebhook
	// foreign is another namespace with whose name the path begins, empty if it is none with HeymarketWebhooks.
	foreign string
	// uncertified says what is wrong with the Secret of the Ingress's certificate, empty if nothing is or none is named.
	uncertified string
	// noGateways says that the cluster has no Gateway API.
	noGateways bool
	// patience with those who have to take the Ingress or HTTPRoute.
	patience time.Duration
	// referenced is the size of all values that the spec refers to and that were read so far, in bytes.
	referenced int
	// unwatched says that no watch will tell when the mistake is repaired.
	unwatched bool
	// trouble is an error to return once the status is written.
	trouble error
	// held says that the receiver stays on the version that it runs, for now.
	held bool
	// rolled says that this round has changed the Deployment, so what is known of its status is out of date.
	rolled bool
}

// resolve gathers every fact.
func (r *Reconciler) resolve(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*round, error) {
	now := &round{hook: hook, patience: cmp.Or(r.Settings.exposurePatience, exposurePatience)}
	now.input = desired.Input{
		Webhook:       hook,
		SharedRedis:   r.Redis(),
		Image:         r.Settings.ReceiverImage,
		IngressClass:  r.Settings.IngressClass,
		NetworkPolicy: r.Settings.NetworkPolicy,
		Gateways:      r.Settings.Gateways,

		TargetAddresses: r.Settings.TargetAddresses,
		TrustedProxies:  r.Settings.TrustedProxies,
		Traces:          r.Settings.Traces,

		KEDA: r.Extensions.Served(desired.ScaledObjectKind),
	}
	now.noGateways = !r.Extensions.Served(desired.HTTPRouteKind)
	if err := r.readChildren(ctx, now); err != nil {
		return nil, err
	}
	now.input.FirstReplicas = desired.Deployment.In(now.children) == nil
	if err := r.checkReferences(ctx, now); err != nil {
		return nil, err
	}
	if err := r.checkTargets(ctx, now); err != nil {
		return nil, err
	}
	if err := r.checkCertificate(ctx, now); err != nil {
		return nil, err
	}
	if err := desired.CheckExpressions(hook); err != nil {
		now.refuse(v1alpha1.ReasonFilterInvalid, "%s.", bounded(err.Error()))
	}
	r.resolveHost(now)
	r.checkMetadata(now)
	if err := r.resolveConflict(ctx, now); err != nil {
		return nil, err
	}
	if err := r.resolveAddress(ctx, now); err != nil {
		return nil, err
	}
	return now, nil
}

// refuse notes a mistake. The first one stands: the ones after it may follow from it.
func (now *round) refuse(reason, format string, args ...any) {
	if now.refusal == nil {
		now.refusal = &verdict{reason: reason, message: fmt.Sprintf(format, args...)}
	}
}

func (now *round) accepted() bool { return now.refusal == nil }

// writes says whether the round may go on to change children.
func (now *round) writes() bool { return now.accepted() && now.failure == nil }

// why says why a child is missing in a round that does not write.
func (now *round) why() string {
	if now.accepted() {
		return "a child that comes before it could not be stored"
	}
	return "the resource is not accepted"
}

// desired returns the children that are wanted; the zero Objects if nothing can be said about them.
func (now *round) desired() desired.Objects {
	if now.input.Segment == "" {
		return desired.Objects{}
	}
	want, err := desired.Build(now.input)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration, "%s", err)
		return desired.Objects{}
	}
	return want
}
