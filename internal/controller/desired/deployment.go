package desired

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/config"
)

const (
	configMount = "/etc/heymarket/config"
	tokenMount  = "/etc/heymarket/token"
	tokenFile   = "token"

	// nonroot is the user of the image.
	nonroot = 65532
	// secretMode lets the Pod's group, and nobody else, read mounted Secrets.
	secretMode = 0o440

	defaultReplicas = 2

	// graceStep makes the grace period coarse, so that a change of a target's timeout seldom changes the Pod template.
	graceStep = 30 * time.Second
)

// deployment depends on the configuration only through the grace period: configuration, token and Redis URL are mounted
// files that the receiver re-reads, so none of them restarts a Pod.
func deployment(in Input, cfg config.Config) *appsv1ac.DeploymentApplyConfiguration {
	replicas := int32(defaultReplicas)
	if r := in.Webhook.Spec.Receiver.Replicas; r != nil {
		replicas = *r
	}
	return appsv1ac.Deployment(ReceiverName(in.Webhook.Name), in.Webhook.Namespace).
		WithLabels(labels(in)).
		WithOwnerReferences(owner(in)).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(replicas).
			WithRevisionHistoryLimit(2).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
			WithStrategy(appsv1ac.DeploymentStrategy().
				WithType(appsv1.RollingUpdateDeploymentStrategyType).
				WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
					WithMaxUnavailable(intstr.FromInt32(0)))).
			WithTemplate(corev1ac.PodTemplateSpec().
				WithLabels(labels(in)).
				WithSpec(podSpec(in, cfg))))
}

func podSpec(in Input, cfg config.Config) *corev1ac.PodSpecApplyConfiguration {
	token := in.Webhook.Spec.Token.SecretKeyRef
	return corev1ac.PodSpec().
		WithAutomountServiceAccountToken(false).
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(int64(gracePeriod(cfg).Seconds())).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithRunAsUser(nonroot).
			WithRunAsGroup(nonroot).
			WithFSGroup(nonroot).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithTopologySpreadConstraints(corev1ac.TopologySpreadConstraint().
			WithMaxSkew(1).
			WithTopologyKey(corev1.LabelHostname).
			WithWhenUnsatisfiable(corev1.ScheduleAnyway).
			WithLabelSelector(metav1ac.LabelSelector().WithMatchLabels(selector(in))).
			WithMatchLabelKeys(appsv1.DefaultDeploymentUniqueLabelKey)).
		WithContainers(container(in)).
		WithVolumes(
			corev1ac.Volume().WithName("config").WithSecret(corev1ac.SecretVolumeSource().
				WithSecretName(ReceiverName(in.Webhook.Name)).
				WithDefaultMode(secretMode)),
			corev1ac.Volume().WithName("token").WithSecret(corev1ac.SecretVolumeSource().
				WithSecretName(token.Name).
				WithDefaultMode(secretMode).
				WithItems(corev1ac.KeyToPath().WithKey(token.Key).WithPath(tokenFile))))
}

func container(in Input) *corev1ac.ContainerApplyConfiguration {
	res := resources(in.Webhook.Spec.Receiver.Resources)
	c := corev1ac.Container().
		WithName("receiver").
		WithImage(in.Image).
		WithCommand("/receiver").
		WithArgs("--config="+configMount+"/"+KeyConfig).
		WithPorts(
			corev1ac.ContainerPort().WithName("http").WithContainerPort(httpPort).WithProtocol(corev1.ProtocolTCP),
			corev1ac.ContainerPort().WithName("ops").WithContainerPort(OpsPort).WithProtocol(corev1.ProtocolTCP)).
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
			corev1ac.VolumeMount().WithName("token").WithMountPath(tokenMount).WithReadOnly(true))
	if res.Limits != nil && !res.Limits.Memory().IsZero() {
		// The divisor is spelt out because the API server would, and the two must compare as equal.
		c.WithEnv(corev1ac.EnvVar().WithName("GOMEMLIMIT").WithValueFrom(corev1ac.EnvVarSource().
			WithResourceFieldRef(corev1ac.ResourceFieldSelector().
				WithResource("limits.memory").
				WithDivisor(resource.MustParse("1")))))
	}
	return c
}

func probe(path string) *corev1ac.ProbeApplyConfiguration {
	return corev1ac.Probe().WithHTTPGet(corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString("ops")))
}

func resources(r *v1alpha1.Resources) *corev1ac.ResourceRequirementsApplyConfiguration {
	if r == nil {
		return corev1ac.ResourceRequirements().
			WithRequests(corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("10m"),
				corev1.ResourceMemory: resource.MustParse("32Mi"),
			}).
			WithLimits(corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")})
	}
	out := corev1ac.ResourceRequirements()
	if len(r.Requests) > 0 {
		out.WithRequests(r.Requests)
	}
	if len(r.Limits) > 0 {
		out.WithLimits(r.Limits)
	}
	return out
}

// gracePeriod is what the receiver says that it may take, the longest timeout of its targets included, rounded up to a
// multiple of graceStep.
func gracePeriod(cfg config.Config) time.Duration {
	return (cfg.TerminationGrace() + graceStep - 1) / graceStep * graceStep
}
