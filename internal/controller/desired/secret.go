package desired

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// URLSecret is the Secret that holds the full URL for a person to copy.
var URLSecret = child[corev1.Secret](Child{
	GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Secret"), EveryChange: true,
	name:  contract.URLSecretName,
	build: func(p plan) any { return urlSecret(p.Input) },
})

// ConfigSecret is the Secret that the receiver mounts.
var ConfigSecret = child[corev1.Secret](Child{
	GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Secret"), EveryChange: true,
	build: func(p plan) any { return configSecret(p) },
})

// DigestOf identifies the configuration in the data of a configuration Secret.
func DigestOf(configSecret map[string][]byte) string { return config.Digest(configSecret[KeyConfig]) }

func urlSecret(in Input) *corev1ac.SecretApplyConfiguration {
	data := map[string][]byte{KeySegment: []byte(in.Segment)}
	if in.Revision > 0 {
		data[KeyRevision] = strconv.AppendInt(nil, in.Revision, 10)
	}
	if len(in.Previous) > 0 {
		data[KeyPrevious] = encodePrevious(in.Previous)
	}
	if u := URL(in); u != "" {
		data[KeyURL] = []byte(u)
	}
	return secret(in, contract.URLSecretName(in.Webhook.Name)).WithData(data)
}

func configSecret(in plan) *corev1ac.SecretApplyConfiguration {
	data := map[string][]byte{KeyConfig: in.encoded}
	if in.Webhook.Spec.Redis == nil {
		data[KeyRedisURL] = []byte(in.SharedRedis.URL)
		if ca := in.SharedRedis.CA; ca != nil {
			data[KeyRedisCA] = ca
		}
	}
	return secret(in.Input, contract.ReceiverName(in.Webhook.Name)).WithData(data)
}

func secret(in Input, name string) *corev1ac.SecretApplyConfiguration {
	return corev1ac.Secret(name, in.Webhook.Namespace).WithLabels(labels(in)).WithOwnerReferences(owner(in))
}
