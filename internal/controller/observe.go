package controller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// observation is what one round has seen of the children.
type observation struct {
	available, exposed verdict
	// ask says that only asking the Pods again will tell more: no watch does.
	ask bool
}

// PodStatus asks a receiver Pod which configuration it serves.
type PodStatus interface {
	// ConfigDigest returns the digest that the Pod with this address reports.
	ConfigDigest(ctx context.Context, address netip.Addr) (string, error)
}

func (r *Reconciler) observe(ctx context.Context, now *round, want desired.Objects) (observation, error) {
	available, ask, err := r.observeReceiver(ctx, now, want)
	if err != nil {
		return observation{}, err
	}
	return observation{available: available, ask: ask, exposed: observeExposure(now)}, nil
}

// observeReceiver says whether every ready Pod serves what is wanted, and whether to ask again.
func (r *Reconciler) observeReceiver(ctx context.Context, now *round, want desired.Objects) (verdict, bool, error) {
	d := now.children.deployment
	name := desired.ReceiverName(now.hook.Name)
	rollout := verdict{reason: v1alpha1.ReasonRolloutInProgress, message: fmt.Sprintf("Deployment %q is bringing up its Pods.", name)}
	switch {
	case d == nil && !now.rolled:
		return verdict{reason: v1alpha1.ReasonNotDeployed, message: "There is no receiver, because the resource is not accepted."}, false, nil
	case d == nil || now.rolled:
		return rollout, false, nil
	case stuck(d):
		return verdict{reason: v1alpha1.ReasonRolloutStuck, message: fmt.Sprintf(
			"Deployment %q exceeded its progress deadline: see kubectl describe deployment %s and its Pods.", name, name)}, false, nil
	case !rolledOut(d):
		return rollout, false, nil
	}

	pods, err := r.readyPods(ctx, now.hook)
	if err != nil {
		return verdict{}, false, err
	}
	if len(pods) == 0 {
		if !wasAvailable(d) {
			return rollout, false, nil
		}
		return verdict{reason: v1alpha1.ReasonNoReadyReplicas, message: fmt.Sprintf(
			"No Pod of Deployment %q is ready: see kubectl describe deployment %s and the logs of its Pods.", name, name)}, false, nil
	}
	switch current, answered := r.ask(ctx, pods, want.ConfigDigest); {
	case !answered:
		return verdict{reason: v1alpha1.ReasonStatusUnreachable, message: fmt.Sprintf(
			"A ready Pod of Deployment %q does not tell the operator which configuration it serves: check that no NetworkPolicy keeps the operator from port %d of the Pods.",
			name, desired.OpsPort)}, true, nil
	case !current:
		return verdict{reason: v1alpha1.ReasonConfigurationPending, message: fmt.Sprintf(
			"A ready Pod of Deployment %q still serves an earlier configuration: the kubelet brings the new one within about a minute.", name)}, now.handedOut(want), nil
	default:
		return verdict{ok: true, reason: v1alpha1.ReasonServing, message: "All ready receiver Pods serve this configuration."}, false, nil
	}
}

// handedOut says that the wanted configuration is in the Secret, so that the Pods will come round by themselves.
func (now *round) handedOut(want desired.Objects) bool {
	s := now.children.configSecret
	return now.accepted() || s != nil && desired.DigestOf(s.Data) == want.ConfigDigest
}

// readyPods returns the addresses of the Pods behind the Service that are ready, each once.
func (r *Reconciler) readyPods(ctx context.Context, hook *v1alpha1.HeymarketWebhook) ([]netip.Addr, error) {
	var slicesOfService discoveryv1.EndpointSliceList
	if err := r.Client.List(ctx, &slicesOfService, client.InNamespace(hook.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: desired.ReceiverName(hook.Name)}); err != nil {
		return nil, fmt.Errorf("list EndpointSlices: %w", err)
	}
	var addrs []netip.Addr
	for _, s := range slicesOfService.Items {
		for _, e := range s.Endpoints {
			if !ptr.Deref(e.Conditions.Ready, true) || len(e.Addresses) == 0 {
				continue
			}
			if a, err := netip.ParseAddr(e.Addresses[0]); err == nil {
				addrs = append(addrs, a)
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// ask asks all pods at once. current says whether all that answered serve digest, answered whether all did.
func (r *Reconciler) ask(ctx context.Context, pods []netip.Addr, digest string) (current, answered bool) {
	got := make([]string, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Go(func() {
			d, err := r.Pods.ConfigDigest(ctx, p)
			if err != nil {
				log.FromContext(ctx).V(1).Info("Receiver did not tell its configuration", "pod", p.String(), "error", err.Error())
			}
			got[i] = d
		})
	}
	wg.Wait()
	current, answered = true, true
	for _, d := range got {
		answered = answered && d != ""
		current = current && d == digest
	}
	return current, answered
}

// rolledOut says that all Pods that the Deployment has are of its present template, and as many as it wants.
func rolledOut(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == ptr.Deref(d.Spec.Replicas, 1) && s.Replicas == s.UpdatedReplicas
}

// wasAvailable says that the present template has been available once, so that Pods which are not ready are an
// accident and not a beginning.
func wasAvailable(d *appsv1.Deployment) bool {
	c := deploymentCondition(d, appsv1.DeploymentProgressing)
	return c != nil && c.Reason == "NewReplicaSetAvailable"
}

func stuck(d *appsv1.Deployment) bool {
	c := deploymentCondition(d, appsv1.DeploymentProgressing)
	return c != nil && c.Status == corev1.ConditionFalse && d.Status.ObservedGeneration >= d.Generation
}

func deploymentCondition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return &d.Status.Conditions[i]
		}
	}
	return nil
}

func observeExposure(now *round) verdict {
	name := desired.ReceiverName(now.hook.Name)
	switch {
	case now.hook.Spec.Exposure.Type == v1alpha1.ExposureNone:
		return verdict{ok: true, reason: v1alpha1.ReasonNotRequested, message: fmt.Sprintf(
			"spec.exposure.type is None: the receiver is reached through Service %q.", name)}
	case now.children.ingress == nil && !now.accepted():
		return verdict{reason: v1alpha1.ReasonNotExposed, message: "There is no Ingress, because the resource is not accepted."}
	case ingressAddress(now.children.ingress) != "":
		return verdict{ok: true, reason: v1alpha1.ReasonAdmitted, message: "An ingress controller has published an address."}
	}
	class := "the cluster's default IngressClass"
	if c := desired.IngressClass(now.hook, now.input.IngressClass); c != "" {
		class = fmt.Sprintf("IngressClass %q", c)
	}
	return verdict{reason: v1alpha1.ReasonAddressPending, message: fmt.Sprintf(
		"No ingress controller has published an address for Ingress %q: check that one serves %s (kubectl get ingressclass) and publishes its address.",
		name, class)}
}
