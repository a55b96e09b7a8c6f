package desired

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// removeKeysFlag starts a receiver that removes the webhook's keys from Redis, and does nothing else.
const removeKeysFlag = "--remove-keys"

// Removal are the objects that remove a deleted resource's keys from Redis, once its receivers have ended.
type Removal struct {
	// ConfigSecret is the Secret that the Pod mounts.
	ConfigSecret *corev1ac.SecretApplyConfiguration
	// Deployment has one Pod, with the receiver's name and labels: rules that let a receiver reach Redis apply to it as well.
	Deployment *appsv1ac.DeploymentApplyConfiguration
}

// BuildRemoval returns the objects that remove the keys of in.Webhook. Of the user's Secrets, the Pod mounts only those of Redis:
// the others may already be deleted. The error names the mistake in the spec.
func BuildRemoval(in Input) (Removal, error) {
	p, err := newPlan(in)
	if err != nil {
		return Removal{}, err
	}
	d := deployment(in, p.pod)
	d.Spec.WithReplicas(1)
	pod := d.Spec.Template.Spec
	container := &pod.Containers[0]
	container.WithArgs(removeKeysFlag)
	pod.Volumes = slices.DeleteFunc(pod.Volumes, func(v corev1ac.VolumeApplyConfiguration) bool { return *v.Name == "secrets" })
	if refs := RedisReferences(in.Webhook); len(refs) > 0 {
		_, secretMode := podSecurity(in)
		pod.WithVolumes(secretsVolume(refs, secretMode))
	} else {
		container.VolumeMounts = slices.DeleteFunc(container.VolumeMounts, func(m corev1ac.VolumeMountApplyConfiguration) bool { return *m.Name == "secrets" })
	}
	return Removal{ConfigSecret: configSecret(p), Deployment: d}, nil
}

// RemovesKeys reports whether d is the Deployment of a Removal, and not the receiver's.
func RemovesKeys(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return slices.Contains(c.Args, removeKeysFlag) })
}
