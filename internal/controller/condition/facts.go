package condition

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/reach"
)

// Facts are the data read by one reconcile. They are not changed once they are complete.
type Facts struct {
	Now     time.Time
	Webhook *v1alpha1.HeymarketWebhook
	// Input is the input for building the children. Its Segment is empty if none is in use and none may be generated.
	Input desired.Input
	// Children are the existing children.
	Children desired.Children
	// Want are the wanted children; the zero value if Input is insufficient.
	Want desired.Objects
	// Mistake is the first mistake in the spec and its references, see Check; nil if there is none.
	Mistake *Condition

	// Held means that the receiver stays on its current version for now.
	Held bool
	// FinalizerErr is why the API server rejects the finalizer; nil if it does not.
	FinalizerErr error

	// Taken are objects with the name of a child and another owner.
	Taken []Taken
	// OperatorRedisURL is the URL of the shared Redis, with the operator's own credential.
	OperatorRedisURL string
	// NoRedisUser means that the namespace needs a user at the shared Redis and has none. RedisRefusal is the answer of Redis if
	// it does not let the operator create one; empty if the operator cannot ask it.
	NoRedisUser  bool
	RedisRefusal string
	// Secrets are the Secrets that the spec refers to, by name, with only the referenced keys; nil for one that does not exist.
	Secrets map[string]*corev1.Secret
	// SecretsTooLarge means that the values of all Secrets together exceeded their limit and were dropped.
	SecretsTooLarge bool
	// OtherTokens are the keys that other HeymarketWebhooks use as tokens, by Secret.
	OtherTokens map[string][]string
	// Certificate is the Secret of the Ingress's certificate; nil if it does not exist or is not configured.
	Certificate *corev1.Secret
	// Services are the targets' Services, by name; nil for one that does not exist.
	Services map[string]*corev1.Service
	// HostError is why the operator's template yields no host; HostNotAllowed means that the namespace may not use it.
	HostError      error
	HostNotAllowed bool
	// AllowedAnnotations and AllowedLabels are keys that the spec may set; a trailing "*" matches any suffix.
	AllowedAnnotations, AllowedLabels []string
	// Rival is the resource that keeps the host and path claimed by this one, nil if there is none.
	Rival *v1alpha1.HeymarketWebhook
	// ForeignNamespace is another namespace with HeymarketWebhooks whose name starts the path; empty if there is none.
	ForeignNamespace string
	// NoGatewayAPI means that the cluster does not serve HTTPRoutes.
	NoGatewayAPI bool
	// MissingGateways are the HTTPRoute's Gateways that do not exist, as far as the operator may read Gateways.
	MissingGateways []types.NamespacedName
	// ExposureTimeout is how long an ingress controller, a Gateway or the issuer of a certificate may take, see ExposureTimeout.
	ExposureTimeout time.Duration

	// Ready has the report of each ready Pod, nil for a Pod that does not answer.
	Ready []*contract.Status
	// Reports are the reports of the ready Pods that answered, or, if no Pod is ready, of the others.
	Reports []contract.Status

	// Probes means that the operator probes public URLs, and Probe is the last result for this one; nil if there is none yet.
	Probes bool
	Probe  *reach.Result
}

// Taken is an object that has the name of a child and another owner.
type Taken struct {
	Child *desired.Child
	Name  string
	// Deleting means that the object is being deleted.
	Deleting bool
}

// Conflicts reports whether no route may exist, because it would take over another resource's requests.
func (f Facts) Conflicts() bool { return f.Rival != nil || f.ForeignNamespace != "" }

// name is the name of all children but one.
func (f Facts) name() string { return contract.ReceiverName(f.Webhook.Name) }

// lasted returns how long the status has reported a condition as True or False; 0 if it reports something else.
func (f Facts) lasted(name string, status metav1.ConditionStatus) time.Duration {
	if c := meta.FindStatusCondition(f.Webhook.Status.Conditions, name); c != nil && c.Status == status {
		return f.Now.Sub(c.LastTransitionTime.Time)
	}
	return 0
}

// OwnPath reports whether the path of a webhook begins with its own namespace and name, which no other path does.
func OwnPath(w *v1alpha1.HeymarketWebhook) bool {
	return strings.HasPrefix(strings.ToLower(desired.PathPrefix(w)), "/"+w.Namespace+"/"+w.Name+"/")
}

// IngressAddress returns the address that an ingress controller has published, or "".
func IngressAddress(ingress *networkingv1.Ingress) string {
	if ingress == nil {
		return ""
	}
	for _, a := range ingress.Status.LoadBalancer.Ingress {
		if a.Hostname != "" {
			return a.Hostname
		}
		if a.IP != "" {
			return a.IP
		}
	}
	return ""
}

// Data returns the data of a Secret, nil if there is none.
func Data(s *corev1.Secret) map[string][]byte {
	if s == nil {
		return nil
	}
	return s.Data
}

// RolledOut reports whether all Pods of the Deployment have the current template, and their number is as desired.
func RolledOut(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == ptr.Deref(d.Spec.Replicas, 1) && s.Replicas == s.UpdatedReplicas
}

// WasAvailable reports whether the current template has been available before, so that Pods that are not ready have failed since
// and are not starting.
func WasAvailable(d *appsv1.Deployment) bool {
	c := deploymentCondition(d, appsv1.DeploymentProgressing)
	return c != nil && c.Reason == "NewReplicaSetAvailable"
}

// Stuck reports whether the rollout has exceeded its deadline.
func Stuck(d *appsv1.Deployment) bool {
	c := deploymentCondition(d, appsv1.DeploymentProgressing)
	return c != nil && c.Status == corev1.ConditionFalse && d.Status.ObservedGeneration >= d.Generation
}

func deploymentCondition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	i := slices.IndexFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
	if i < 0 {
		return nil
	}
	return &d.Status.Conditions[i]
}
