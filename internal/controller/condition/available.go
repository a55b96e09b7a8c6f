package condition

import (
	"regexp"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// How soon to query the Pods again: no watch reports what they serve. After askTimeout the interval is askSlowly.
const (
	ask        = 3 * time.Second
	askSlowly  = 30 * time.Second
	askTimeout = 5 * time.Minute
)

// Available reports whether every ready Pod serves the wanted configuration.
func Available(f Facts, w Writes) *Condition {
	if c := w.problem(f, v1alpha1.ConditionAvailable); c != nil {
		return c
	}
	d := desired.Deployment.In(f.Children)
	switch {
	case d == nil && !w.DeploymentWritten:
		return False(v1alpha1.ReasonNotDeployed, "There is no receiver, because %s.", notWritten(f, w))
	case d == nil || w.DeploymentWritten:
		return rolloutInProgress(f)
	}
	if c := deployment(f, d); c != nil {
		return c
	}
	return serving(f, w)
}

// availableAlarms: reasons that resolve automatically emit no event.
var availableAlarms = only(v1alpha1.ReasonPodsRefused, v1alpha1.ReasonRolloutStuck, v1alpha1.ReasonChildFailed, v1alpha1.ReasonChildOverwritten,
	v1alpha1.ReasonDeploymentPaused, v1alpha1.ReasonScaledToZero)

func rolloutInProgress(f Facts) *Condition {
	return False(v1alpha1.ReasonRolloutInProgress, "Deployment %q is starting its Pods.", f.name())
}

// deployment returns why the Deployment does not run the wanted Pods, nil if it does.
func deployment(f Facts, d *appsv1.Deployment) *Condition {
	name := f.name()
	switch {
	case d.Spec.Paused:
		return False(v1alpha1.ReasonDeploymentPaused,
			"The rollout of Deployment %q is paused, so changes do not reach its Pods: resume it with kubectl rollout resume deployment %s -n %s.", name, name, d.Namespace)
	case ptr.Deref(d.Spec.Replicas, 1) == 0:
		return False(v1alpha1.ReasonScaledToZero,
			"Deployment %q is scaled to zero, so no receiver runs and autoscalers ignore it: scale it up with kubectl scale deployment %s -n %s --replicas=%d.",
			name, name, d.Namespace, desired.MinReplicas(f.Webhook))
	case podsRejected(d) != "":
		c := False(v1alpha1.ReasonPodsRefused,
			"The API server rejects the Pods of Deployment %q (%s): change the quota, the policy or the part of spec.receiver that it names%s.", name, podsRejected(d), userIDRemedy(podsRejected(d)))
		c.Message = Bounded(c.Message)
		return c
	case Stuck(d):
		return False(v1alpha1.ReasonRolloutStuck,
			"The Pods of Deployment %q do not become ready: see kubectl describe pods -l %s=%s. "+
				"If they cannot pull the image %q, set spec.receiver.imagePullSecrets or the operator's --receiver-image; if they fit no node, change spec.receiver.resources, nodeSelector or tolerations.",
			name, contract.LabelInstance, f.Webhook.Name, f.Input.Image)
	case !RolledOut(d), len(f.Ready) == 0 && !WasAvailable(d):
		return rolloutInProgress(f)
	}
	return nil
}

// serving reports whether the Pods of a completed rollout serve the wanted configuration.
func serving(f Facts, w Writes) *Condition {
	name := f.name()
	switch {
	case len(f.Ready) == 0:
		return False(v1alpha1.ReasonNoReadyReplicas, "No Pod of Deployment %q is ready: see kubectl describe deployment %s and the logs of its Pods.", name, name)
	case slices.Contains(f.Ready, nil):
		return False(v1alpha1.ReasonStatusUnreachable,
			"A ready Pod of Deployment %q does not answer the operator on port %d: check that no NetworkPolicy blocks it. In a service mesh that enforces mutual TLS, exclude the port by "+
				"spec.receiver.podAnnotations: traffic.sidecar.istio.io/excludeInboundPorts or config.linkerd.io/skip-inbound-ports, each %q (see docs/mesh.md).",
			name, contract.OperationsPort, strconv.Itoa(contract.OperationsPort)).again(askAgain(f, metav1.ConditionFalse))
	case !slices.ContainsFunc(f.Ready, func(p *contract.Status) bool { return p.ConfigDigest != f.Want.ConfigDigest }):
		return True(v1alpha1.ReasonServing, "All ready receiver Pods serve this configuration.")
	case !handedOut(f, w):
		return False(v1alpha1.ReasonConfigurationPending,
			"A ready Pod of Deployment %q still serves an earlier configuration: the new one is rolled out once the resource is accepted.", name)
	}
	return False(v1alpha1.ReasonConfigurationPending,
		"A ready Pod of Deployment %q still serves an earlier configuration: the kubelet updates mounted files within about a minute; if this persists, see the logs of its Pods for the reason.",
		name).again(askAgain(f, metav1.ConditionFalse))
}

// askAgain returns how soon to query the Pods again, given the status of Available in this reconcile.
func askAgain(f Facts, status metav1.ConditionStatus) time.Duration {
	if f.lasted(v1alpha1.ConditionAvailable, status) > askTimeout {
		return askSlowly
	}
	return ask
}

// handedOut reports whether the wanted configuration is in the Secret, so that Pods will serve it without further writes.
func handedOut(f Facts, w Writes) bool {
	s := desired.ConfigSecret.In(f.Children)
	return accepted(f, w) || s != nil && desired.DigestOf(s.Data) == f.Want.ConfigDigest
}

// userIDRemedy names the field for user IDs if the API server may have rejected those of the Pods.
func userIDRemedy(answer string) string {
	if !userIDs.MatchString(answer) {
		return ""
	}
	return "; where the platform assigns user IDs, set spec.receiver.podSecurityContext to {}, or the operator's --receiver-user-id to Platform (see docs/openshift.md)"
}

// userIDs are the fields of a Pod with user and group IDs, and the policies of OpenShift, which assigns them.
var userIDs = regexp.MustCompile(`(?i)runAsUser|runAsGroup|fsGroup|supplementalGroups|security context constraint`)

var podName = regexp.MustCompile(`^pods "[^"]*" is `)

// podsRejected returns the API server's answer if it rejects the Pods, without the name of the Pod; empty if it accepts them.
func podsRejected(d *appsv1.Deployment) string {
	c := deploymentCondition(d, appsv1.DeploymentReplicaFailure)
	if c == nil || c.Status != corev1.ConditionTrue || d.Status.ObservedGeneration < d.Generation {
		return ""
	}
	return podName.ReplaceAllString(c.Message, "")
}
