package controller

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// observation is what one round has seen of the children.
type observation struct {
	available, durable, exposed verdict
	// scaled is nil where KEDA is not asked for.
	scaled *verdict
	// reports are those of the Pods that answered.
	reports []contract.Status
	// ask says that only asking the Pods again will tell more: no watch does.
	ask bool
}

// mostPods bounds how many Pods of one resource are asked: as many as it may have replicas.
const mostPods = 100

// PodStatus asks receiver Pods about themselves.
type PodStatus interface {
	// Report returns what the Pod with this address says. It returns an error if it says nothing.
	Report(ctx context.Context, address netip.Addr) (contract.Status, error)
}

func (r *Reconciler) observe(ctx context.Context, now *round, want desired.Objects) (observation, error) {
	pods, err := listPods(ctx, r.Client, now.hook)
	if err != nil {
		return observation{}, err
	}
	seen := observation{exposed: observeExposure(now), scaled: observeScaling(now)}
	// What KEDA writes into a status wakes nobody: it does so at every poll of a webhook that has work to do.
	now.unwatched = now.unwatched || seen.scaled != nil && !seen.scaled.ok && seen.scaled.reason != v1alpha1.ReasonKEDAMissing
	reports := askPods(ctx, r.Pods, pods.ready)
	seen.available, seen.ask = observeReceiver(now, want, reports)
	seen.fails(now.repeated)
	seen.fails(now.leftover)
	seen.fails(now.failure)
	if len(pods.ready) == 0 {
		// Pods that are not ready may know why.
		reports = askPods(ctx, r.Pods, pods.waiting)
	}
	for _, p := range reports {
		if p != nil {
			seen.reports = append(seen.reports, *p)
		}
	}
	seen.durable = observeDurability(now.hook, seen.reports)
	if desired.Deployment.In(now.children) == nil && !now.rolled && seen.durable.reason == v1alpha1.ReasonDurabilityUnknown {
		seen.durable = verdict{reason: v1alpha1.ReasonNotDeployed, message: "There is no receiver that could ask Redis, because " + now.why() + "."}
	}
	// No watch tells when a Pod has asked Redis.
	seen.ask = seen.ask || seen.available.ok && seen.durable.reason == v1alpha1.ReasonDurabilityUnknown
	return seen, nil
}

// fails lets the condition that a child belongs to say that the API server could not store or remove it.
func (o *observation) fails(f *failure) {
	switch {
	case f == nil:
	case f.child.Condition == v1alpha1.ConditionExposed:
		o.exposed = f.verdict
	case f.child.Condition == v1alpha1.ConditionScaled && o.scaled != nil:
		o.scaled = &f.verdict
	default:
		o.available = f.verdict
	}
}

// observeReceiver says whether every ready Pod serves what is wanted, and whether to ask again. reports are those of the
// ready Pods, nil for one that does not answer.
func observeReceiver(now *round, want desired.Objects, reports []*contract.Status) (verdict, bool) {
	d := desired.Deployment.In(now.children)
	name := desired.ReceiverName(now.hook.Name)
	rollout := verdict{reason: v1alpha1.ReasonRolloutInProgress, message: fmt.Sprintf("Deployment %q is bringing up its Pods.", name)}
	switch {
	case d == nil && !now.rolled:
		return verdict{reason: v1alpha1.ReasonNotDeployed, message: "There is no receiver, because " + now.why() + "."}, false
	case d == nil || now.rolled:
		return rollout, false
	case d.Spec.Paused:
		return verdict{reason: v1alpha1.ReasonDeploymentPaused, message: fmt.Sprintf(
			"The rollout of Deployment %q is paused, so changes do not reach its Pods: resume it with kubectl rollout resume deployment %s -n %s.", name, name, d.Namespace)}, false
	case ptr.Deref(d.Spec.Replicas, 1) == 0:
		return verdict{reason: v1alpha1.ReasonScaledToZero, message: fmt.Sprintf(
			"Deployment %q is scaled to zero, so no receiver runs and autoscalers leave it alone: scale it up with kubectl scale deployment %s -n %s --replicas=%d.",
			name, name, d.Namespace, desired.MinReplicas(now.hook))}, false
	case refusesPods(d) != "":
		return verdict{reason: v1alpha1.ReasonPodsRefused, message: bounded(fmt.Sprintf(
			"The API server refuses the Pods of Deployment %q (%s): change the quota, the policy or the part of spec.receiver that it names.", name, refusesPods(d)))}, false
	case stuck(d):
		return verdict{reason: v1alpha1.ReasonRolloutStuck, message: fmt.Sprintf(
			"The Pods of Deployment %q do not become ready: see kubectl describe pods -l %s=%s. "+
				"If they cannot pull the image %q, set spec.receiver.imagePullSecrets or the operator's --receiver-image; if they fit no node, change spec.receiver.resources, nodeSelector or tolerations.",
			name, desired.LabelInstance, now.hook.Name, now.input.Image)}, false
	case !rolledOut(d):
		return rollout, false
	case len(reports) == 0 && !wasAvailable(d):
		return rollout, false
	case len(reports) == 0:
		return verdict{reason: v1alpha1.ReasonNoReadyReplicas, message: fmt.Sprintf(
			"No Pod of Deployment %q is ready: see kubectl describe deployment %s and the logs of its Pods.", name, name)}, false
	case slices.Contains(reports, nil):
		return verdict{reason: v1alpha1.ReasonStatusUnreachable, message: fmt.Sprintf(
			"A ready Pod of Deployment %q does not answer the operator on port %d: check that no NetworkPolicy blocks it. In a service mesh that enforces mutual TLS, exclude the port by "+
				"spec.receiver.podAnnotations: traffic.sidecar.istio.io/excludeInboundPorts or config.linkerd.io/skip-inbound-ports, each %q (see docs/mesh.md).",
			name, desired.OpsPort, strconv.Itoa(desired.OpsPort))}, true
	case slices.ContainsFunc(reports, func(p *contract.Status) bool { return p.ConfigDigest != want.ConfigDigest }):
		how := "the kubelet brings the new one within about a minute; if it lasts, the logs of its Pods say why they do not take it over"
		if !now.handedOut(want) {
			how = "the new one is handed out once the resource is accepted"
		}
		return verdict{reason: v1alpha1.ReasonConfigurationPending, message: fmt.Sprintf(
			"A ready Pod of Deployment %q still serves an earlier configuration: %s.", name, how)}, now.handedOut(want)
	}
	return verdict{ok: true, reason: v1alpha1.ReasonServing, message: "All ready receiver Pods serve this configuration."}, false
}

// handedOut says that the wanted configuration is in the Secret, so that the Pods will come round by themselves.
func (now *round) handedOut(want desired.Objects) bool {
	s := desired.ConfigSecret.In(now.children)
	return now.accepted() || s != nil && desired.DigestOf(s.Data) == want.ConfigDigest
}

// podAddresses are the addresses of one Pod, sorted; two where it has one of each family.
type podAddresses []netip.Addr

// pods are the Pods behind a Service, each once.
type pods struct {
	ready, waiting []podAddresses
}

func listPods(ctx context.Context, c client.Reader, hook *v1alpha1.HeymarketWebhook) (pods, error) {
	var slicesOfService discoveryv1.EndpointSliceList
	if err := c.List(ctx, &slicesOfService, client.InNamespace(hook.Namespace), client.UnsafeDisableDeepCopy,
		client.MatchingLabels{discoveryv1.LabelServiceName: desired.ReceiverName(hook.Name)}); err != nil {
		return pods{}, fmt.Errorf("list EndpointSlices: %w", err)
	}
	ready, waiting := map[string]podAddresses{}, map[string]podAddresses{}
	for _, s := range slicesOfService.Items {
		for _, e := range s.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			a, err := netip.ParseAddr(e.Addresses[0])
			pod := e.Addresses[0]
			if e.TargetRef != nil {
				pod = e.TargetRef.Name // The slices of the two families name the same Pod.
			}
			switch {
			case err != nil:
			case ptr.Deref(e.Conditions.Ready, true):
				ready[pod] = append(ready[pod], a)
			case !ptr.Deref(e.Conditions.Terminating, false):
				waiting[pod] = append(waiting[pod], a)
			}
		}
	}
	for pod := range ready {
		delete(waiting, pod) // One of the slices is behind.
	}
	return pods{ready: sorted(ready), waiting: sorted(waiting)}, nil
}

func sorted(byPod map[string]podAddresses) []podAddresses {
	var out []podAddresses
	for _, addresses := range byPod {
		slices.SortFunc(addresses, netip.Addr.Compare)
		out = append(out, slices.Compact(addresses))
	}
	slices.SortFunc(out, func(a, b podAddresses) int { return slices.CompareFunc(a, b, netip.Addr.Compare) })
	return out
}

// askPods asks all Pods at once, and returns nil for one that does not answer.
func askPods(ctx context.Context, status PodStatus, pods []podAddresses) []*contract.Status {
	pods = pods[:min(len(pods), mostPods)]
	reports := make([]*contract.Status, len(pods))
	var wg sync.WaitGroup
	for i, addresses := range pods {
		wg.Go(func() { reports[i] = askPod(ctx, status, addresses) })
	}
	wg.Wait()
	return reports
}

// askPod asks a Pod by one address after the other: the operator may reach only one of the families. It returns nil if the Pod
// answers at none.
func askPod(ctx context.Context, status PodStatus, addresses podAddresses) *contract.Status {
	for _, a := range addresses {
		report, err := status.Report(ctx, a)
		if err == nil {
			return &report
		}
		log.FromContext(ctx).V(1).Info("Receiver did not answer", "pod", a.String(), "error", err.Error())
	}
	return nil
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

var podName = regexp.MustCompile(`^pods "[^"]*" is `)

// refusesPods is what the API server says about Pods that it does not take, without the name of the one that was tried;
// empty if it takes them.
func refusesPods(d *appsv1.Deployment) string {
	c := deploymentCondition(d, appsv1.DeploymentReplicaFailure)
	if c == nil || c.Status != corev1.ConditionTrue || d.Status.ObservedGeneration < d.Generation {
		return ""
	}
	return podName.ReplaceAllString(c.Message, "")
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
	case now.rival != nil:
		why := "is older"
		if ownPath(now.rival) && !ownPath(now.hook) {
			why = "has its name in the path"
		}
		return verdict{reason: v1alpha1.ReasonHostConflict, message: fmt.Sprintf(
			"HeymarketWebhook %q in namespace %q %s and has the same host and path, %q: set another spec.exposure.host or spec.exposure.path.",
			now.rival.Name, now.rival.Namespace, why, now.input.Host+desired.PathPrefix(now.hook))}
	case now.foreign != "":
		return verdict{reason: v1alpha1.ReasonPathNotAllowed, message: fmt.Sprintf(
			"The path %q of spec.exposure.path begins with the name of another namespace that has HeymarketWebhooks, %q: begin it with /%s/%s, or with another word.",
			now.hook.Spec.Exposure.Path, now.foreign, now.hook.Namespace, now.hook.Name)}
	case now.hook.Spec.Exposure.Type == v1alpha1.ExposureHTTPRoute:
		return observeRoute(now)
	case desired.Ingress.In(now.children) == nil && !now.writes():
		return verdict{reason: v1alpha1.ReasonNotExposed, message: "There is no Ingress, because " + now.why() + "."}
	case ingressAddress(desired.Ingress.In(now.children)) == "":
		return observeAddress(now)
	case now.uncertified != "":
		return observeCertificate(now)
	}
	return verdict{ok: true, reason: v1alpha1.ReasonAdmitted, message: "An ingress controller has published an address."}
}

// annotationIngressClass names the class of an Ingress in the way of before there was a field for it.
const annotationIngressClass = "kubernetes.io/ingress.class"

// observeAddress says why an Ingress has no address yet, as far as the operator can know.
func observeAddress(now *round) verdict {
	name, is := desired.ReceiverName(now.hook.Name), desired.Ingress.In(now.children)
	class := "the cluster's default IngressClass, because spec.exposure.ingress.className is not set"
	if i := now.hook.Spec.Exposure.Ingress; i != nil && i.ClassName != "" {
		class = fmt.Sprintf("IngressClass %q of spec.exposure.ingress.className", i.ClassName)
	} else if now.input.IngressClass != "" {
		class = fmt.Sprintf("IngressClass %q of the operator's --ingress-class", now.input.IngressClass)
	}
	missing := fmt.Sprintf("No ingress controller has published an address for Ingress %q: check that one serves %s (kubectl get ingressclass) and publishes its address.", name, class)
	switch {
	case is == nil || !overdue(now, is):
		return verdict{reason: v1alpha1.ReasonAddressPending, message: missing}
	case is.Spec.IngressClassName == nil && is.Annotations[annotationIngressClass] == "":
		// The API server gives the default class to new Ingresses alone.
		missing = fmt.Sprintf("No ingress controller has published an address for Ingress %q, which has no IngressClass, because spec.exposure.ingress.className is not set and the cluster had no default "+
			"when it was made: set the field or the operator's --ingress-class (kubectl get ingressclass); or, if there is a default by now, delete the Ingress, and the operator makes it anew.", name)
	}
	return verdict{reason: v1alpha1.ReasonAddressMissing, message: missing}
}

// observeCertificate says that senders will not trust what the ingress controller shows them.
func observeCertificate(now *round) verdict {
	reason := v1alpha1.ReasonCertificatePending
	if overdue(now, desired.Ingress.In(now.children)) {
		reason = v1alpha1.ReasonCertificateMissing
	}
	return verdict{reason: reason, message: fmt.Sprintf(
		"Secret %q of spec.exposure.ingress.tlsSecretName %s: create it with a certificate for the host and its key (kubectl create secret tls), or see why cert-manager has not (kubectl describe certificate). Heymarket would not trust the ingress controller's own.",
		now.hook.Spec.Exposure.Ingress.TLSSecretName, now.uncertified)}
}

// pendingExposure are the reasons of silence that is not worth an event yet.
var pendingExposure = []string{v1alpha1.ReasonAddressPending, v1alpha1.ReasonCertificatePending, v1alpha1.ReasonRoutePending}

// exposurePatience is how long an ingress controller, a Gateway or who makes a certificate may take before its silence is worth an event.
const exposurePatience = 5 * time.Minute

// overdue says that the resource has waited long enough for its Ingress or HTTPRoute to be taken.
func overdue(now *round, child client.Object) bool {
	c := meta.FindStatusCondition(now.hook.Status.Conditions, v1alpha1.ConditionExposed)
	return c != nil && c.Status == metav1.ConditionFalse &&
		time.Since(c.LastTransitionTime.Time) > now.patience && time.Since(child.GetCreationTimestamp().Time) > now.patience
}
