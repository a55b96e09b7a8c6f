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

// Removal is what removes the keys of a deleted resource from Redis, once its receivers have ended.
type Removal struct {
	// ConfigSecret is what the Pod mounts.
	ConfigSecret *corev1ac.SecretApplyConfiguration
	// Deployment has one Pod, and the name and the labels of the receiver's: what lets a receiver reach Redis holds for it too.
	Deployment *appsv1ac.DeploymentApplyConfiguration
}

// BuildRemoval returns what removes the keys of in.Webhook. The Pod mounts no Secret of the user's but those of Redis: the others
// may be gone already. The error says what is wrong with the spec.
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

// RemovesKeys says that d is the Deployment of a Removal, and not the receiver's.
func RemovesKeys(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Spec.Template.Spec.Containers, func(c corev1.Container) bool { return slices.Contains(c.Args, removeKeysFlag) })
}
