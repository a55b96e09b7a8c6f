package desired

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/receiver/config"
)

func TestParseReceiverDefaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":   "",
		"{}": "",
		`{"imagePullSecrets":[{"name":"registry"}],"nodeSelector":{"example.com/pool":"hooks"},"priorityClassName":"messaging"}`: "",
		"resources:\n  limits: {memory: 256Mi}\n  requests: {memory: 256Mi, cpu: 20m}":                                           "",
		`{"tolerations":[{"operator":"Exists"},{"key":"a","value":"b","effect":"NoSchedule"}]}`:                                  "",
		`{"resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"64Mi","cpu":"0"}}}`:                                      "",
		"[]":                       "not an object",
		`{"image":"x"}`:            `"image"`,
		`{"imagePullSecrets":"x"}`: "imagePullSecrets",
		`{"imagePullSecrets":[{"name":"Registry"}]}`:                             "imagePullSecrets",
		`{"imagePullSecrets":[{"name":""}]}`:                                     "imagePullSecrets",
		`{"priorityClassName":"system-node-critical"}`:                           "system",
		`{"priorityClassName":"A"}`:                                              "priorityClassName",
		`{"nodeSelector":{"a b":"c"}}`:                                           "nodeSelector",
		`{"nodeSelector":{"a":"b c"}}`:                                           "nodeSelector",
		`{"tolerations":[{"operator":"exists"}]}`:                                "operator",
		`{"tolerations":[{"operator":"Exists","value":"a"}]}`:                    "Exists",
		`{"tolerations":[{"value":"a"}]}`:                                        "Equal",
		`{"tolerations":[{"key":"a","effect":"Never"}]}`:                         "effect",
		`{"resources":{"limits":{"memory":"64Mi"},"requests":{"memory":"1Gi"}}}`: "above its limit",
		`{"resources":{"limits":{"memory":"-64Mi"}}}`:                            "negative",
		`{"resources":{"limits":{"memory":"much"}}}`:                             "quantities must match",
		`{"resources":{"claims":[]}}`:                                            "claims",
	} {
		_, err := ParseReceiverDefaults(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

// The precedence: the resource's value, then the operator's, then the built-in one, each field as a
// whole.
func TestReceiverDefaults(t *testing.T) {
	t.Parallel()
	defaults, err := ParseReceiverDefaults(`{
		"imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"pool": "hooks"}, "priorityClassName": "messaging",
		"tolerations": [{"operator": "Exists"}], "resources": {"limits": {"memory": "256Mi"}}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	hook := func(r v1alpha1.Receiver) *v1alpha1.HeymarketWebhook {
		return &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{Receiver: r}}
	}
	all := v1alpha1.Receiver{
		ImagePullSecrets: defaults.ImagePullSecrets, NodeSelector: defaults.NodeSelector, PriorityClassName: "messaging", Tolerations: defaults.Tolerations,
		Resources: &v1alpha1.Resources{
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")},
		},
	}
	scaled := all
	scaled.Autoscaling = &v1alpha1.Autoscaling{}
	scaled.Resources = scaled.Resources.DeepCopy()
	scaled.Resources.Requests[corev1.ResourceCPU] = resource.MustParse("100m")
	own := v1alpha1.Receiver{
		ImagePullSecrets: []v1alpha1.LocalSecretReference{{Name: "mine"}}, NodeSelector: map[string]string{"zone": "a"}, PriorityClassName: "low",
		Tolerations: []corev1.Toleration{{Key: "a"}}, Resources: &v1alpha1.Resources{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}},
	}
	for name, tc := range map[string]struct {
		in   Input
		want v1alpha1.Receiver
	}{
		"built in":     {Input{Webhook: hook(v1alpha1.Receiver{})}, v1alpha1.Receiver{}},
		"the operator": {Input{Webhook: hook(v1alpha1.Receiver{}), ReceiverDefaults: defaults}, all},
		"autoscaled":   {Input{Webhook: hook(v1alpha1.Receiver{Autoscaling: &v1alpha1.Autoscaling{}}), ReceiverDefaults: defaults}, scaled},
		"the resource": {Input{Webhook: hook(own), ReceiverDefaults: defaults}, own},
	} {
		if diff := cmp.Diff(tc.want, receiver(tc.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if _, leaked := defaults.Resources.Requests[corev1.ResourceCPU]; leaked {
			t.Errorf("%s: the operator's defaults are changed", name)
		}
	}
	// A default for the CPU is kept, wherever it is.
	for _, text := range []string{`{"resources":{"limits":{"cpu":"2"}}}`, `{"resources":{"requests":{"cpu":"2"}}}`} {
		d, err := ParseReceiverDefaults(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.Resources, receiver(Input{Webhook: hook(v1alpha1.Receiver{}), ReceiverDefaults: d}).Resources); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	// They reach the Pods of receivers, and the Pod that removes keys.
	spec, err := podSpec(Input{Webhook: hook(v1alpha1.Receiver{}), ReceiverDefaults: defaults}, config.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := spec.Containers[0]
	if *spec.PriorityClassName != "messaging" || spec.NodeSelector["pool"] != "hooks" || *spec.ImagePullSecrets[0].Name != "registry" || len(spec.Tolerations) != 1 ||
		c.Resources.Limits.Memory().String() != "256Mi" || *c.Env[0].Value != "241591905" {
		t.Errorf("the Pods have priority %s, limit %s, GOMEMLIMIT %s", *spec.PriorityClassName, c.Resources.Limits.Memory(), *c.Env[0].Value)
	}
}
