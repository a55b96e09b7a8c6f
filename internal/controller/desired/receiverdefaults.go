package desired

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"heymarket.dev/operator/api/v1alpha1"
)

// ReceiverDefaults replace the built-in defaults of these fields of spec.receiver; fields set by a resource take precedence, each
// as a whole.
type ReceiverDefaults struct {
	Resources         *v1alpha1.Resources             `json:"resources,omitempty"`
	NodeSelector      map[string]string               `json:"nodeSelector,omitempty"`
	Tolerations       []corev1.Toleration             `json:"tolerations,omitempty"`
	PriorityClassName string                          `json:"priorityClassName,omitempty"`
	ImagePullSecrets  []v1alpha1.LocalSecretReference `json:"imagePullSecrets,omitempty"`
}

// ParseReceiverDefaults parses JSON or YAML. Values that are invalid in a Pod are an error: they would stop every receiver.
func ParseReceiverDefaults(text string) (d ReceiverDefaults, err error) {
	if err := yaml.UnmarshalStrict([]byte(text), &d); err != nil {
		return d, fmt.Errorf("it is not an object with resources, nodeSelector, tolerations, priorityClassName and imagePullSecrets: %w", err)
	}
	name := func(field, name string) error {
		if found := validation.IsDNS1123Subdomain(name); len(found) > 0 {
			return fmt.Errorf("%s %q: %s", field, name, found[0])
		}
		return nil
	}
	var errs []error
	for _, s := range d.ImagePullSecrets {
		errs = append(errs, name("imagePullSecrets", s.Name))
	}
	if d.PriorityClassName != "" {
		errs = append(errs, name("priorityClassName", d.PriorityClassName))
	}
	if strings.HasPrefix(d.PriorityClassName, "system-") {
		errs = append(errs, errors.New("priorityClassName is one of the system's: receivers would displace what the cluster needs"))
	}
	for _, key := range slices.Sorted(maps.Keys(d.NodeSelector)) {
		if found := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(d.NodeSelector[key])...); len(found) > 0 {
			errs = append(errs, fmt.Errorf("nodeSelector %q: %s", key, found[0]))
		}
	}
	for _, t := range d.Tolerations {
		switch {
		case !slices.Contains([]corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists}, t.Operator):
			errs = append(errs, fmt.Errorf("tolerations: operator %q is neither Equal nor Exists", t.Operator))
		case t.Operator == corev1.TolerationOpExists && t.Value != "", t.Operator != corev1.TolerationOpExists && t.Key == "":
			errs = append(errs, errors.New("tolerations: Exists takes no value, and Equal takes a key"))
		case !slices.Contains([]corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}, t.Effect):
			errs = append(errs, fmt.Errorf("tolerations: effect %q is not NoSchedule, PreferNoSchedule or NoExecute", t.Effect))
		}
	}
	if r := d.Resources; r != nil {
		for kind, request := range r.Requests {
			if limit, bounded := r.Limits[kind]; bounded && request.Cmp(limit) > 0 {
				errs = append(errs, fmt.Errorf("resources: the request for %s is above its limit", kind))
			}
		}
		for _, quantities := range []corev1.ResourceList{r.Requests, r.Limits} {
			for kind, quantity := range quantities {
				if quantity.Sign() < 0 {
					errs = append(errs, fmt.Errorf("resources: %s is negative", kind))
				}
			}
		}
	}
	return d, errors.Join(errs...)
}

// receiver returns the resource's spec.receiver with the operator's defaults.
func receiver(in Input) v1alpha1.Receiver {
	r, d := in.Webhook.Spec.Receiver, in.ReceiverDefaults
	if r.Resources == nil && d.Resources != nil {
		r.Resources = d.Resources.DeepCopy()
		_, requested := r.Resources.Requests[corev1.ResourceCPU]
		_, limited := r.Resources.Limits[corev1.ResourceCPU]
		if !requested && !limited { // an autoscaler measures against the request
			if r.Resources.Requests == nil {
				r.Resources.Requests = corev1.ResourceList{}
			}
			r.Resources.Requests[corev1.ResourceCPU] = defaultCPU(r)
		}
	}
	if len(r.NodeSelector) == 0 {
		r.NodeSelector = d.NodeSelector
	}
	if len(r.Tolerations) == 0 {
		r.Tolerations = d.Tolerations
	}
	if r.PriorityClassName == "" {
		r.PriorityClassName = d.PriorityClassName
	}
	if len(r.ImagePullSecrets) == 0 {
		r.ImagePullSecrets = d.ImagePullSecrets
	}
	return r
}
