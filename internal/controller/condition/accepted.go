package condition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/desired"
)

// retryTaken is how soon to check again whether an object with the name of a child still exists: not every such object is
// watched.
const retryTaken = 30 * time.Second

// Accepted reports whether the spec is valid and all its references resolve.
func Accepted(f Facts, w Writes) *Condition {
	switch {
	case f.Mistake != nil:
		return f.Mistake
	case w.Rejected != nil && apierrors.HasStatusCause(w.Rejected.Err, corev1.NamespaceTerminatingCause):
		return False(v1alpha1.ReasonChildRefused, "The namespace is being deleted.")
	case w.Rejected != nil:
		return False(v1alpha1.ReasonChildRefused, "The API server rejected %s %q; change the part of the spec, the quota or the policy that it names%s: %s",
			w.Rejected.Child.Kind, w.Rejected.Name, userIDRemedy(w.Rejected.Err.Error()), Bounded(w.Rejected.Err.Error()))
	}
	if c := targets(f); c != nil {
		return c.again(withdrawal(f))
	}
	unused := ""
	if n := f.Webhook.Spec.Receiver.Replicas; n != nil && *n != desired.DefaultReplicas && f.Webhook.Spec.Receiver.Autoscaling != nil {
		unused = " spec.receiver.replicas has no effect beside spec.receiver.autoscaling: remove it, and set minReplicas and maxReplicas there."
	}
	return True(v1alpha1.ReasonAccepted, "The spec is valid and all references resolve.%s%s", suspicion(f), unused).again(withdrawal(f))
}

// acceptedAlarms: every reason emits an event.
var acceptedAlarms = except()

// RollsOut reports whether changes still reach the Pods while Accepted has this reason.
func RollsOut(reason string) bool {
	return only(v1alpha1.ReasonAccepted, v1alpha1.ReasonTargetServiceNotFound, v1alpha1.ReasonTargetPortNotFound, v1alpha1.ReasonTargetAddressRefused,
		v1alpha1.ReasonTargetNamespaceClosed)(reason)
}

// withdrawal is when the next previous URL is no longer accepted.
func withdrawal(f Facts) time.Duration {
	until, _ := desired.PreviousUntil(f.Input)
	if until.IsZero() {
		return 0
	}
	return max(until.Sub(f.Now), time.Second)
}

// Check returns the first mistake in the spec and its references, nil if there is none. If there is one, nothing more is written.
func Check(f Facts) *Condition {
	for _, check := range []func(Facts) *Condition{namesTaken, redisUser, redisTarget, references, literals, certificateOwner, expressions, host, metadata} {
		if c := check(f); c != nil {
			return c
		}
	}
	return nil
}

// Invalid reports a configuration that no receiver would accept.
func Invalid(err error) *Condition { return False(v1alpha1.ReasonInvalidConfiguration, "%s", err) }

// FinalizerRejected reports that the API server rejects the finalizer. A receiver would store events without a guarantee that
// they are deleted with the resource.
func FinalizerRejected(err error) *Condition {
	return False(v1alpha1.ReasonFinalizerRefused, "The API server rejected the finalizer %s, which spec.deletionPolicy needs; change the policy that it names: %s",
		v1alpha1.FinalizerRedisKeys, Bounded(APIMessage(err)))
}

func namesTaken(f Facts) *Condition {
	if len(f.Taken) == 0 {
		return nil
	}
	return NameTaken(f.Taken[0])
}

// NameTaken reports an object with the name of a child and another owner.
func NameTaken(t Taken) *Condition {
	format := "%s %q exists and does not belong to this HeymarketWebhook, so it is left alone: delete or rename it, or give the HeymarketWebhook another name."
	switch {
	case t.Deleting:
		format = "%s %q belongs to an earlier HeymarketWebhook of this name and is being deleted."
	case t.Child == desired.URLSecret.Child:
		format = "%s %q exists and was not made by the operator, so it is left alone. If it holds the URL that Heymarket sends to, keep a copy of it before you rename it; " +
			"or give the HeymarketWebhook another name."
	}
	return False(v1alpha1.ReasonChildNameTaken, format, t.Child.Kind, t.Name).again(retryTaken)
}

// redisUser reports that the namespace has no user at the shared Redis. Receivers must not get any other credential.
func redisUser(f Facts) *Condition {
	switch {
	case !f.NoRedisUser:
		return nil
	case f.RedisRefusal != "":
		return False(v1alpha1.ReasonRedisUserRefused,
			"Redis does not allow the operator to create a user for this namespace (%s): grant the operator's Redis user the commands in docs/redis.md, set the operator's --redis-isolation to Shared, or set spec.redis.",
			Bounded(f.RedisRefusal))
	}
	return False(v1alpha1.ReasonRedisUserNotCreated,
		"The operator cannot create a Redis user for this namespace because it cannot reach the shared Redis or log in: check that Redis runs, the URL and credential in the operator's Secret, and the operator's log. Resolves automatically once it can.")
}

// redisTarget rejects a target that is the Redis in which events are stored.
func redisTarget(f Facts) *Condition {
	for _, t := range f.Webhook.Spec.Targets {
		if desired.IsRedis(t, f.Webhook.Namespace, f.OperatorRedisURL, f.Input.OwnRedisURL) {
			return False(v1alpha1.ReasonInvalidConfiguration, "spec.targets[%s] is the Redis that holds the events: name the target's own address.", t.Name)
		}
	}
	return nil
}

// references checks every key of a Secret that the spec refers to.
func references(f Facts) *Condition {
	if f.SecretsTooLarge {
		return False(v1alpha1.ReasonSecretValueInvalid,
			"The values of all Secret keys that the spec refers to are larger than 1 MiB together: refer to fewer or smaller ones.")
	}
	values := withheld(f)
	for _, ref := range desired.References(f.Webhook) {
		if c := cmp.Or(secretOwner(f, ref), secretValue(f, ref), confidential(f, ref, values)); c != nil {
			return c
		}
	}
	return nil
}

// secretOwner rejects a reference to a Secret that the operator generated, or to a token in a field that is not for tokens.
func secretOwner(f Facts, ref desired.Reference) *Condition {
	own := slices.ContainsFunc(desired.References(f.Webhook), func(r desired.Reference) bool {
		return r.Token && r.Secret == ref.Secret && r.Key == ref.Key
	})
	switch {
	case belongsToOperator(f.Secrets[ref.Secret]), ref.Target && desired.ReservedKey(ref.Secret, ref.Key):
		return False(v1alpha1.ReasonSecretNotAllowed, "Key %q of Secret %q of %s belongs to the operator: name a Secret of your own.", ref.Key, ref.Secret, ref.Field)
	case !ref.Token && (own || slices.Contains(f.OtherTokens[ref.Secret], ref.Key)):
		return False(v1alpha1.ReasonSecretNotAllowed,
			"Key %q of Secret %q of %s is a verification token of a HeymarketWebhook, which must reach no target: name another key.", ref.Key, ref.Secret, ref.Field)
	}
	return nil
}

// belongsToOperator reports whether the operator generated a Secret, or it appears so.
func belongsToOperator(s *corev1.Secret) bool {
	if s == nil {
		return false
	}
	return s.Labels[contract.LabelManagedBy] == contract.ManagedByValue ||
		slices.ContainsFunc(s.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "HeymarketWebhook" })
}

func secretValue(f Facts, ref desired.Reference) *Condition {
	noSecret, noKey, empty := v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonSecretKeyNotFound, v1alpha1.ReasonSecretValueInvalid
	if ref.Token {
		noSecret, noKey, empty = v1alpha1.ReasonTokenSecretNotFound, v1alpha1.ReasonTokenKeyNotFound, v1alpha1.ReasonTokenEmpty
	}
	secret := f.Secrets[ref.Secret]
	if secret == nil {
		return False(noSecret, "Secret %q of %s does not exist in namespace %q: create it with %s under the key %q.",
			ref.Secret, ref.Field, f.Webhook.Namespace, ref.Content, ref.Key)
	}
	value, found := secret.Data[ref.Key]
	if !found {
		return False(noKey, "Secret %q of %s has no key %q: add it with %s, or name the right key.", ref.Secret, ref.Field, ref.Key, ref.Content)
	}
	switch err := ref.Check(value); {
	case errors.Is(err, desired.ErrEmpty):
		return False(empty, "Key %q of Secret %q of %s is empty: put %s into it.", ref.Key, ref.Secret, ref.Field, ref.Content)
	case err != nil:
		return False(v1alpha1.ReasonSecretValueInvalid, "Key %q of Secret %q of %s cannot be used: %s.%s", ref.Key, ref.Secret, ref.Field, err, hint(f, ref))
	}
	return nil
}

// suspicion returns the hint about the first Secret that seems to hold more than its value, "" if there is none.
func suspicion(f Facts) string {
	for _, ref := range desired.References(f.Webhook) {
		if s := hint(f, ref); s != "" {
			return s
		}
	}
	return ""
}

func hint(f Facts, ref desired.Reference) string {
	if s := ref.Suspicion(Data(f.Secrets[ref.Secret])[ref.Key]); s != "" {
		return fmt.Sprintf(" The value under key %q of Secret %q of %s %s.", ref.Key, ref.Secret, ref.Field, s)
	}
	return ""
}

// withheld returns the values that must not be sent to a target: the resource's tokens and URL, and the Redis credentials.
func withheld(f Facts) (out desired.Confidential) {
	out.AddRedisURL(f.Input.SharedRedis.URL)
	out.AddRedisURL(f.OperatorRedisURL)
	for _, path := range desired.SecretPaths(Data(desired.URLSecret.In(f.Children)), Data(desired.ConfigSecret.In(f.Children))) {
		out.AddPath(path)
	}
	for _, ref := range desired.References(f.Webhook) {
		value := Data(f.Secrets[ref.Secret])[ref.Key]
		switch {
		case ref.Token:
			out.AddToken(value)
		case ref.Redis:
			out.AddRedisURL(string(bytes.TrimSpace(value)))
		}
	}
	return out
}

// confidential rejects a value that must not be sent to a target, whichever Secret holds it. Values that a HeymarketWebhook
// refers to are sent to targets chosen by its author, who may have no right to read Secrets.
func confidential(f Facts, ref desired.Reference, values desired.Confidential) *Condition {
	secret := f.Secrets[ref.Secret]
	if !ref.Target || secret == nil {
		return nil
	}
	for _, key := range f.OtherTokens[ref.Secret] {
		values.AddToken(secret.Data[key])
	}
	if err := values.Check(secret.Data[ref.Key]); err != nil {
		return False(v1alpha1.ReasonSecretNotAllowed, "Key %q of Secret %q of %s %s.", ref.Key, ref.Secret, ref.Field, err)
	}
	return nil
}

// literals rejects header values in the spec that contain a value that must not be sent to a target.
func literals(f Facts) *Condition {
	values := withheld(f)
	for _, t := range f.Webhook.Spec.Targets {
		for _, h := range t.Headers {
			if h.Value == nil {
				continue
			}
			if err := values.Check([]byte(*h.Value)); err != nil {
				return False(v1alpha1.ReasonSecretNotAllowed, "The value of spec.targets[%s].headers[%s] %s.", t.Name, h.Name, err)
			}
		}
	}
	return nil
}

func certificateOwner(f Facts) *Condition {
	if !belongsToOperator(f.Certificate) {
		return nil
	}
	return False(v1alpha1.ReasonSecretNotAllowed, "Secret %q of spec.exposure.ingress.tlsSecretName belongs to the operator: name a Secret of type kubernetes.io/tls of your own.",
		f.Certificate.Name)
}

func expressions(f Facts) *Condition {
	if err := desired.CheckExpressions(f.Webhook); err != nil {
		return False(v1alpha1.ReasonFilterInvalid, "%s.", Bounded(err.Error()))
	}
	return nil
}

func host(f Facts) *Condition {
	switch {
	case f.HostError != nil:
		return False(v1alpha1.ReasonInvalidConfiguration,
			"The operator's --host-template produces no valid host for this resource (%s): set spec.exposure.host.", f.HostError)
	case f.HostNotAllowed:
		return False(v1alpha1.ReasonHostNotAllowed,
			"Host %q of spec.exposure.host is not one that namespace %q may claim: choose another, remove it, or have the operator's --allowed-hosts permit it.",
			f.Webhook.Spec.Exposure.Host, f.Webhook.Namespace)
	}
	return nil
}

// metadata rejects annotations and labels that the operator does not allow: other controllers act on them, with their own rights.
func metadata(f Facts) *Condition {
	spec := f.Webhook.Spec
	if i := spec.Exposure.Ingress; i != nil {
		if c := annotations(f, "spec.exposure.ingress.annotations", i.Annotations); c != nil {
			return c
		}
	}
	if c := annotations(f, "spec.exposure.serviceAnnotations", spec.Exposure.ServiceAnnotations); c != nil {
		return c
	}
	if c := annotations(f, "spec.receiver.podAnnotations", spec.Receiver.PodAnnotations); c != nil {
		return c
	}
	for _, key := range slices.Sorted(maps.Keys(spec.Receiver.PodLabels)) {
		if !Allows(f.AllowedLabels, key) {
			return False(v1alpha1.ReasonLabelNotAllowed,
				"Label %q of spec.receiver.podLabels is not one that HeymarketWebhooks may set: remove it, or have the operator's --allowed-labels allow it.", key)
		}
	}
	return nil
}

// AnnotationDNSHostname makes external-dns create names besides the host of the Ingress.
const AnnotationDNSHostname = "external-dns.alpha.kubernetes.io/hostname"

func annotations(f Facts, field string, set map[string]v1alpha1.AnnotationValue) *Condition {
	for _, key := range slices.Sorted(maps.Keys(set)) {
		value := string(set[key])
		switch {
		case !Allows(f.AllowedAnnotations, key):
			return False(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s is not one that HeymarketWebhooks may set: remove it, or have the operator's --allowed-annotations allow it.", key, field)
		case slices.Contains(f.AllowedAnnotations, "*"): // The operator leaves it to the authors.
		case strings.ContainsFunc(value, unicode.IsControl):
			return False(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s holds a line break or another control character: put its value on one line.", key, field)
		case key == AnnotationDNSHostname && !isHost(f, value):
			return False(v1alpha1.ReasonAnnotationNotAllowed,
				"Annotation %q of %s names another host than the webhook has, %q: name that one, or remove the annotation.", key, field, cmp.Or(f.Input.Host, "none yet"))
		}
	}
	return nil
}

// Allows reports whether a list contains a key, or a prefix of it followed by "*".
func Allows(list []string, key string) bool {
	return slices.ContainsFunc(list, func(allowed string) bool {
		beginning, open := strings.CutSuffix(allowed, "*")
		return key == allowed || open && strings.HasPrefix(key, beginning)
	})
}

// isHost reports whether every name of a comma separated list is the host of the webhook.
func isHost(f Facts, names string) bool {
	for name := range strings.SplitSeq(names, ",") {
		if strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".") != f.Input.Host || !f.Input.HostRequested {
			return false
		}
	}
	return true
}

// targets reports the first problem with a target or with access to Redis. It does not stop a rollout: the receiver keeps
// the events until the problem is fixed.
func targets(f Facts) *Condition {
	if closed := f.Input.NetworkPolicy.ClosedNamespace(f.Webhook.Namespace, f.Input.OwnRedisURL); closed != "" {
		return namespaceClosed("Redis of spec.redis", closed)
	}
	for _, t := range f.Webhook.Spec.Targets {
		if c := target(f, t); c != nil {
			return c
		}
	}
	return nil
}

func target(f Facts, t v1alpha1.Target) *Condition {
	const kept = " The events for this target are kept meanwhile."
	field, closed := fmt.Sprintf("spec.targets[%s].url", t.Name), ""
	if t.URL != nil {
		closed = f.Input.NetworkPolicy.ClosedNamespace(f.Webhook.Namespace, *t.URL)
	}
	var service *corev1.Service
	if t.Service != nil {
		field, service = fmt.Sprintf("spec.targets[%s].service", t.Name), f.Services[t.Service.Name]
	}
	blocked := f.Input.TargetAddresses.RefusesTarget(t, service)
	switch {
	case t.Service != nil && service == nil:
		return False(v1alpha1.ReasonTargetServiceNotFound, "Service %q of %s does not exist in namespace %q: create it, or name the right one."+kept,
			t.Service.Name, field, f.Webhook.Namespace)
	case closed != "":
		return namespaceClosed(field, closed)
	case service != nil && !offers(service, t.Service.Port):
		return False(v1alpha1.ReasonTargetPortNotFound, "Service %q has no port %d, which %s.port names: name one of its ports (kubectl get service %s)."+kept,
			t.Service.Name, t.Service.Port, field, t.Service.Name)
	case blocked != nil:
		remedy := "name another one"
		if blocked.Private {
			remedy += ", or have the operator's --target-addresses allow its network"
		}
		return False(v1alpha1.ReasonTargetAddressRefused, "Target address %s of %s is blocked: it is a %s address; %s."+kept, blocked.Address, field, blocked.Kind, remedy)
	}
	return nil
}

// namespaceClosed reports that the NetworkPolicy of the receivers blocks the destination named by a field.
func namespaceClosed(field, namespace string) *Condition {
	return False(v1alpha1.ReasonTargetNamespaceClosed,
		"The receivers' NetworkPolicy blocks traffic to %s in namespace %q: have the operator's --network-policy-target-namespaces allow that namespace, or name another one.",
		field, namespace)
}

// offers reports whether a Service accepts connections on the port. That cannot be determined, and counts as true, for a Service
// whose name resolves to the Pods themselves or to another host.
func offers(s *corev1.Service, port int32) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone ||
		slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
}
