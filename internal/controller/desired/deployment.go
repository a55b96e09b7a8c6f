package desired

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

const (
	configMount = "/etc/heymarket/config"

	// ImageUser is the user and the group of the image.
	ImageUser = 65532

	// DefaultReplicas is the CRD's default of spec.receiver.replicas and of autoscaling.minReplicas.
	DefaultReplicas = 2

	// graceStep makes the grace period coarse, so that changing a target's timeout rarely changes the Pod template.
	graceStep = 30 * time.Second
)

// Deployment is the child that runs the receiver.
var Deployment = child[appsv1.Deployment](Child{
	GroupVersionKind: appsv1.SchemeGroupVersion.WithKind("Deployment"), EveryChange: true,
	build: func(p plan) any { return deployment(p.Input, p.pod) },
})

// deployment depends on the configuration only through the grace period: configuration, Redis URL and the user's Secrets are
// mounted files that the receiver re-reads, so no Pod restarts unless another Secret must be mounted.
func deployment(in Input, pod *corev1ac.PodSpecApplyConfiguration) *appsv1ac.DeploymentApplyConfiguration {
	podLabels := map[string]string{}
	for k, v := range in.Webhook.Spec.Receiver.PodLabels {
		podLabels[k] = string(v)
	}
	maps.Copy(podLabels, labels(in)) // The operator's labels take precedence.
	template := corev1ac.PodTemplateSpec().WithLabels(podLabels).WithSpec(pod)
	for k, v := range in.Webhook.Spec.Receiver.PodAnnotations {
		template.WithAnnotations(map[string]string{k: string(v)})
	}
	spec := appsv1ac.DeploymentSpec().
		WithRevisionHistoryLimit(2).
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
		WithStrategy(appsv1ac.DeploymentStrategy().
			WithType(appsv1.RollingUpdateDeploymentStrategyType).
			WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
				WithMaxUnavailable(intstr.FromInt32(0)))).
		WithTemplate(template)
	if scaler(in) == nobody || in.FirstReplicas {
		spec.WithReplicas(MinReplicas(in.Webhook))
	}
	return appsv1ac.Deployment(contract.ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(spec)
}

// MinReplicas returns the number of receiver Pods, or the minimum if an autoscaler sets it.
func MinReplicas(w *v1alpha1.HeymarketWebhook) int32 {
	if a := w.Spec.Receiver.Autoscaling; a != nil {
		return ptr.Deref(a.MinReplicas, DefaultReplicas)
	}
	return ptr.Deref(w.Spec.Receiver.Replicas, DefaultReplicas)
}

func podSpec(in Input, cfg config.Config) (*corev1ac.PodSpecApplyConfiguration, error) {
	security, secretMode := podSecurity(in)
	spec := corev1ac.PodSpec().
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(int64(gracePeriod(cfg).Seconds())).
		WithSecurityContext(security).
		WithContainers(container(in)).
		WithVolumes(
			corev1ac.Volume().WithName("config").WithSecret(corev1ac.SecretVolumeSource().
				WithSecretName(contract.ReceiverName(in.Webhook.Name)).
				WithDefaultMode(secretMode)),
			secretsVolume(References(in.Webhook), secretMode))
	if err := setScheduling(in, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

// podSecurity returns the security context of the Pods, and the mode of the Secrets that they mount: without an fsGroup, which a
// platform may still add, files belong to root, and only a world-readable mode lets the Pod's user read them.
func podSecurity(in Input) (security *corev1ac.PodSecurityContextApplyConfiguration, secretMode int32) {
	ids := in.Webhook.Spec.Receiver.PodSecurityContext
	if ids == nil && in.UserID != 0 {
		ids = &v1alpha1.PodSecurityContext{RunAsUser: &in.UserID, RunAsGroup: &in.UserID, FSGroup: &in.UserID}
	}
	security = corev1ac.PodSecurityContext().
		WithRunAsNonRoot(true).
		WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))
	secretMode = 0o444
	if ids != nil {
		security.RunAsUser, security.RunAsGroup, security.FSGroup = ids.RunAsUser, ids.RunAsGroup, ids.FSGroup
	}
	if security.FSGroup != nil {
		secretMode = 0o440
	}
	return security, secretMode
}

// setScheduling sets the scheduling and image pull fields of the Pods.
func setScheduling(in Input, spec *corev1ac.PodSpecApplyConfiguration) error {
	r := receiver(in)
	if len(r.NodeSelector) > 0 {
		spec.WithNodeSelector(r.NodeSelector)
	}
	if r.PriorityClassName != "" {
		spec.WithPriorityClassName(r.PriorityClassName)
	}
	for _, s := range r.ImagePullSecrets {
		spec.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(s.Name))
	}
	for _, c := range []struct {
		field    string
		from, to any
	}{
		{"tolerations", r.Tolerations, &spec.Tolerations},
		{"affinity", r.Affinity, &spec.Affinity},
		{"topologySpreadConstraints", r.TopologySpreadConstraints, &spec.TopologySpreadConstraints},
	} {
		// Both types have the same fields and encode to JSON.
		b, err := json.Marshal(c.from)
		if err == nil {
			err = json.Unmarshal(b, c.to)
		}
		if err != nil {
			return fmt.Errorf("receiver.%s: %w", c.field, err)
		}
	}
	if a := spec.Affinity; a != nil {
		a.NodeAffinity, a.PodAffinity, a.PodAntiAffinity = nonEmpty(a.NodeAffinity), nonEmpty(a.PodAffinity), nonEmpty(a.PodAntiAffinity)
		spec.Affinity = nonEmpty(a)
	}
	for i := range spec.TopologySpreadConstraints {
		if t := &spec.TopologySpreadConstraints[i]; t.LabelSelector == nil {
			t.WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in)))
		}
	}
	if len(r.TopologySpreadConstraints) == 0 {
		spec.WithTopologySpreadConstraints(corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).
			WithTopologyKey(corev1.LabelHostname).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
			WithMatchLabelKeys(appsv1.DefaultDeploymentUniqueLabelKey))
	}
	return nil
}

// nonEmpty returns p, or nil if p points to a struct without any field. Kubernetes treats both alike, but whether the API server
// keeps an empty struct that is applied depends on what was applied before it.
func nonEmpty[T any](p *T) *T {
	if p != nil && reflect.ValueOf(*p).IsZero() {
		return nil
	}
	return p
}

func container(in Input) *corev1ac.ContainerApplyConfiguration {
	res := resources(receiver(in))
	c := corev1ac.Container().
		WithName(ContainerName).
		WithImage(in.Image).
		WithCommand("/receiver").
		WithArgs("--config="+configMount+"/"+KeyConfig).
		WithPorts(
			corev1ac.ContainerPort().WithName("http").WithContainerPort(contract.EventsPort).WithProtocol(corev1.ProtocolTCP),
			corev1ac.ContainerPort().WithName("ops").WithContainerPort(contract.OperationsPort).WithProtocol(corev1.ProtocolTCP)).
		WithReadinessProbe(probe("/readyz").WithPeriodSeconds(5).WithTimeoutSeconds(2).WithFailureThreshold(2)).
		WithLivenessProbe(probe("/healthz").WithPeriodSeconds(10).WithTimeoutSeconds(5).WithFailureThreshold(3)).
		WithResources(res).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithRunAsNonRoot(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL"))).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName("config").WithMountPath(configMount).WithReadOnly(true),
			corev1ac.VolumeMount().WithName("secrets").WithMountPath(secretsMount).WithReadOnly(true))
	if res.Limits != nil && !res.Limits.Memory().IsZero() {
		// Memory that Go does not count, such as runtime stacks and mapped files, must fit as well.
		c.WithEnv(variable("GOMEMLIMIT", strconv.FormatInt(res.Limits.Memory().Value()/10*9, 10)))
	}
	return c.WithEnv(in.Traces.variables()...)
}

func probe(path string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("ops")))
}

func resources(receiver v1alpha1.Receiver) *corev1ac.ResourceRequirementsApplyConfiguration {
	r := receiver.Resources
	if r == nil {
		return corev1ac.ResourceRequirements().
			WithRequests(corev1.ResourceList{
				corev1.ResourceCPU:    defaultCPU(receiver),
				corev1.ResourceMemory: resource.MustParse("32Mi"),
			}).
			WithLimits(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")})
	}
	out := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		out.WithRequests(rounded(r.Requests))
	}
	if len(r.Limits) > 0 {
		out.WithLimits(rounded(r.Limits))
	}
	return out
}

// defaultCPU returns a receiver's default CPU request.
func defaultCPU(receiver v1alpha1.Receiver) resource.Quantity {
	if receiver.Autoscaling != nil {
		return resource.MustParse("100m") // With a lower request, any activity would exceed the autoscaler's target.
	}
	return resource.MustParse("10m")
}

// rounded rounds quantities as the API server does for a Pod: 100u becomes 1m. Otherwise the stored object would never
// equal the desired one.
func rounded(list corev1.ResourceList) corev1.ResourceList {
	out := make(corev1.ResourceList, len(list))
	for name, quantity := range list {
		quantity = quantity.DeepCopy()
		quantity.RoundUp(resource.Milli)
		out[name] = quantity
	}
	return out
}

// gracePeriod returns the maximum shutdown time of the receiver, including the longest timeout of its targets, rounded up to a
// multiple of graceStep.
func gracePeriod(cfg config.Config) time.Duration {
	return (cfg.TerminationGrace() + graceStep - 1) / graceStep * graceStep
}

// ReceiverImage returns the image of the Deployment's receiver container.
func ReceiverImage(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == ContainerName {
			return c.Image
		}
	}
	return ""
}
