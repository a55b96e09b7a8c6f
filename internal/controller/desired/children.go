package desired

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/config"
)

// Table has a row for each child. Children are applied in this order: Secrets before the Pods that mount them, and the
// NetworkPolicy before the Pods that it isolates.
var Table = []*Child{
	URLSecret.Child,
	ConfigSecret.Child,
	serviceChild.Child,
	networkPolicyChild.Child,
	Deployment.Child,
	disruptionBudgetChild.Child,
	autoscalerChild.Child,
	ScaledObject.Child,
	Ingress.Child,
	HTTPRoute.Child,
}

// Kinds returns the rows of Table, the first one of each kind.
func Kinds() []*Child {
	seen := map[schema.GroupVersionKind]bool{}
	return slices.DeleteFunc(slices.Clone(Table), func(c *Child) bool {
		known := seen[c.GroupVersionKind]
		seen[c.GroupVersionKind] = true
		return known
	})
}

// Object is a child as it is in the cluster.
type Object interface {
	metav1.Object
	runtime.Object
}

// Child is a row of Table: what reading, applying, pruning, caching and watching require for one child.
type Child struct {
	schema.GroupVersionKind
	// Optional means that not every cluster serves the kind. Its objects are unstructured, and caches hold only their metadata.
	Optional bool
	// Condition reports that the child cannot be written or deleted; empty means ConditionAvailable.
	Condition string
	// EveryChange wakes the owner on every change of the child, because its status is read or its kind counts no
	// generations. Otherwise only changes of its spec, labels and owners do.
	EveryChange bool
	// Exclusive names a group of children of which at most one may exist: the others are deleted before one is applied.
	Exclusive string

	name  func(webhook string) string // nil means contract.ReceiverName
	empty func() Object
	// wanted reports whether the spec may ask for the child, and possible whether it can currently exist; nil means always.
	wanted, possible func(Input) bool
	build            func(plan) any
}

// plan is the input for building children.
type plan struct {
	Input
	config config.Config
	// encoded is the config as receivers read it, and pod is their Pod.
	encoded []byte
	pod     *corev1ac.PodSpecApplyConfiguration
}

// ObjectName returns the name of the child of a webhook.
func (c *Child) ObjectName(webhook string) string {
	if c.name != nil {
		return c.name(webhook)
	}
	return contract.ReceiverName(webhook)
}

// New returns an empty object of the child's kind.
func (c *Child) New() Object {
	obj := c.empty()
	if c.Optional {
		obj.GetObjectKind().SetGroupVersionKind(c.GroupVersionKind)
	}
	return obj
}

// Metadata returns an empty object of the child's kind with only metadata.
func (c *Child) Metadata() *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(c.GroupVersionKind)
	return out
}

// Wanted reports whether the spec requests the child, now or once missing data such as a host is known.
func (c *Child) Wanted(in Input) bool { return c.wanted == nil || c.wanted(in) }

// Of is a row whose objects have the Go type T.
type Of[T Object] struct{ *Child }

// In returns the child from children, nil if it does not exist.
func (c Of[T]) In(children Children) T {
	obj, _ := children[c.Child].(T)
	return obj
}

// Children are the existing children of a webhook.
type Children map[*Child]Object

func child[T any, P interface {
	*T
	Object
}](c Child,
) Of[P] {
	c.empty = func() Object { return P(new(T)) }
	return Of[P]{&c}
}

func optional(c Child) Of[*unstructured.Unstructured] {
	c.Optional = true
	return child[unstructured.Unstructured](c)
}

// Objects are the wanted children.
type Objects struct {
	// Children has every row of Table, in its order.
	Children []Wanted
	// ConfigSecret and Deployment are the objects of these rows.
	ConfigSecret *corev1ac.SecretApplyConfiguration
	Deployment   *appsv1ac.DeploymentApplyConfiguration
	// ConfigDigest identifies the configuration, as a receiver that serves it reports it.
	ConfigDigest string
}

// Wanted is a child with its apply configuration.
type Wanted struct {
	*Child
	// Object encodes to the JSON that is applied; nil if the child is not wanted.
	Object any
}

// Build returns the children. It returns an error if receivers would reject the configuration; the error names the mistake in
// the spec.
func Build(in Input) (Objects, error) {
	p, err := newPlan(in)
	if err != nil {
		return Objects{}, err
	}
	o := Objects{ConfigDigest: config.Digest(p.encoded)}
	for _, c := range Table {
		w := Wanted{Child: c}
		if c.Wanted(in) && (c.possible == nil || c.possible(in)) {
			w.Object = c.build(p)
		}
		switch object := w.Object.(type) {
		case *appsv1ac.DeploymentApplyConfiguration:
			o.Deployment = object
		case *corev1ac.SecretApplyConfiguration:
			if c == ConfigSecret.Child {
				o.ConfigSecret = object
			}
		}
		o.Children = append(o.Children, w)
	}
	return o, nil
}

func newPlan(in Input) (plan, error) {
	cfg, err := receiverConfig(in)
	if err != nil {
		return plan{}, err
	}
	encoded, err := config.Encode(cfg)
	if err != nil {
		return plan{}, err
	}
	pod, err := podSpec(in, cfg)
	return plan{Input: in, config: cfg, encoded: encoded, pod: pod}, err
}
