package controller

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// verdict is the outcome of one condition.
type verdict struct {
	ok              bool
	reason, message string
}

// round is what one reconcile knows.
type round struct {
	hook     *v1alpha1.HeymarketWebhook
	children children
	// input of the children. Its Segment is empty if none is in use and none may be made up.
	input desired.Input
	// refusal is the first mistake of a person that was found, nil if the resource is accepted.
	refusal *verdict
	// missing is the first thing that the resource refers to and that is not there, without which a receiver can work
	// all the same; nil if there is none.
	missing *verdict
	// failure is the first child that the API server could not store, nil if there is none.
	failure *failure
	// leftover is a child that is no longer wanted and that the API server does not remove, nil if there is none.
	leftover *failure
	// rival is the resource that keeps the host and path which this one claims, nil if there is none.
	rival *v1alpha1.HeymarketWebhook
	// uncertified says what is wrong with the Secret of the Ingress's certificate, empty if nothing is or none is named.
	uncertified string
	// noGateways says that the cluster has no Gateway API.
	noGateways bool
	// patience with those who have to take the Ingress or HTTPRoute.
	patience time.Duration
	// unwatched says that no watch will tell when the mistake is repaired.
	unwatched bool
	// trouble is an error to return once the status is written.
	trouble error
	// held says that the receiver stays on the version that it runs, for now.
	held bool
	// rolled says that this round has changed the Deployment, so what is known of its status is out of date.
	rolled bool
}

// children are the child objects as they are, nil where there is none.
type children struct {
	urlSecret, configSecret *corev1.Secret
	service                 *corev1.Service
	policy                  *networkingv1.NetworkPolicy
	deployment              *appsv1.Deployment
	budget                  *policyv1.PodDisruptionBudget
	autoscaler              *autoscalingv2.HorizontalPodAutoscaler
	scaledObject            *unstructured.Unstructured
	ingress                 *networkingv1.Ingress
	route                   *unstructured.Unstructured
}

// resolve gathers every fact.
func (r *Reconciler) resolve(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*round, error) {
	now := &round{hook: hook, patience: cmp.Or(r.Settings.exposurePatience, exposurePatience)}
	if err := r.readChildren(ctx, now); err != nil {
		return nil, err
	}
	now.input = desired.Input{
		Webhook:       hook,
		SharedRedis:   r.Redis(),
		Image:         r.Settings.ReceiverImage,
		IngressClass:  r.Settings.IngressClass,
		NetworkPolicy: r.Settings.NetworkPolicy,
		Gateways:      r.Settings.Gateways,

		TargetAddresses: r.Settings.TargetAddresses,
		TrustedProxies:  r.Settings.TrustedProxies,
		Traces:          r.Settings.Traces,

		KEDA:          r.Extensions.Served(desired.ScaledObjectKind),
		FirstReplicas: now.children.deployment == nil,
	}
	if err := r.checkReferences(ctx, now); err != nil {
		return nil, err
	}
	if err := r.checkTargets(ctx, now); err != nil {
		return nil, err
	}
	if err := r.checkCertificate(ctx, now); err != nil {
		return nil, err
	}
	if err := desired.CheckExpressions(hook); err != nil {
		now.refuse(v1alpha1.ReasonFilterInvalid, "%s.", bounded(err.Error()))
	}
	r.resolveHost(now)
	if err := r.resolveConflict(ctx, now); err != nil {
		return nil, err
	}
	if err := r.resolveAddress(ctx, now); err != nil {
		return nil, err
	}
	return now, nil
}

// refuse notes a mistake. The first one stands: the ones after it may follow from it.
func (now *round) refuse(reason, format string, args ...any) {
	if now.refusal == nil {
		now.refusal = &verdict{reason: reason, message: fmt.Sprintf(format, args...)}
	}
}

func (now *round) accepted() bool { return now.refusal == nil }

// writes says whether the round may go on to change children.
func (now *round) writes() bool { return now.accepted() && now.failure == nil }

// why says why a child is missing in a round that does not write.
func (now *round) why() string {
	if now.accepted() {
		return "a child that comes before it could not be stored"
	}
	return "the resource is not accepted"
}

// desired returns the children that are wanted; the zero Objects if nothing can be said about them.
func (now *round) desired() desired.Objects {
	if now.input.Segment == "" {
		return desired.Objects{}
	}
	want, err := desired.Build(now.input)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration, "%s", err)
		return desired.Objects{}
	}
	return want
}

func (r *Reconciler) readChildren(ctx context.Context, now *round) error {
	name := client.ObjectKey{Namespace: now.hook.Namespace, Name: desired.ReceiverName(now.hook.Name)}
	urlName := client.ObjectKey{Namespace: now.hook.Namespace, Name: desired.URLSecretName(now.hook.Name)}
	wantsRoute := now.hook.Spec.Exposure.Type == v1alpha1.ExposureHTTPRoute
	wantsIngress := now.hook.Spec.Exposure.Type != v1alpha1.ExposureNone && !wantsRoute
	wantsBudget := desired.MinReplicas(now.hook) > 1
	wantsAutoscaler := now.hook.Spec.Receiver.Autoscaling != nil

	var err error
	if now.children.urlSecret, err = readChild(ctx, r, now, "Secret", urlName, &corev1.Secret{}, true); err != nil {
		return err
	}
	if now.children.configSecret, err = readChild(ctx, r, now, "Secret", name, &corev1.Secret{}, true); err != nil {
		return err
	}
	if now.children.service, err = readChild(ctx, r, now, "Service", name, &corev1.Service{}, true); err != nil {
		return err
	}
	if now.children.policy, err = readChild(ctx, r, now, "NetworkPolicy", name, &networkingv1.NetworkPolicy{}, r.Settings.NetworkPolicy != nil); err != nil {
		return err
	}
	if now.children.deployment, err = readChild(ctx, r, now, "Deployment", name, &appsv1.Deployment{}, true); err != nil {
		return err
	}
	if now.children.budget, err = readChild(ctx, r, now, "PodDisruptionBudget", name, &policyv1.PodDisruptionBudget{}, wantsBudget); err != nil {
		return err
	}
	if now.children.autoscaler, err = readChild(ctx, r, now, "HorizontalPodAutoscaler", name, &autoscalingv2.HorizontalPodAutoscaler{}, wantsAutoscaler); err != nil {
		return err
	}
	if now.children.ingress, err = readChild(ctx, r, now, "Ingress", name, &networkingv1.Ingress{}, wantsIngress); err != nil {
		return err
	}
	wantsScaledObject := wantsAutoscaler && now.hook.Spec.Receiver.Autoscaling.BacklogPerReplica != nil
	if now.children.scaledObject, err = r.readExtension(ctx, now, desired.ScaledObjectKind, name, wantsScaledObject); err != nil {
		return err
	}
	now.noGateways = wantsRoute && !r.Extensions.Served(desired.HTTPRouteKind)
	now.children.route, err = r.readExtension(ctx, now, desired.HTTPRouteKind, name, wantsRoute)
	return err
}

// readChild returns the object, or nil if there is none. What the cache does not know is asked of the API server if the
// child is wanted: it may be too new for the cache, may have lost its label, or may be somebody else's. An object that
// is not controlled by this resource is a refusal, and not ours to read, change or delete.
func readChild[T client.Object](
	ctx context.Context, r *Reconciler, now *round, kind string, key client.ObjectKey, obj T, wanted bool,
) (T, error) {
	var none T
	err := r.Client.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) && wanted {
		err = r.Live.Get(ctx, key, obj)
	}
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("read %s %s: %w", kind, key.Name, err)
	case metav1.IsControlledBy(obj, now.hook):
		return obj, nil
	case !wanted:
		return none, nil
	}
	now.unwatched = true
	if c := metav1.GetControllerOf(obj); c != nil && c.Kind == "HeymarketWebhook" && c.Name == now.hook.Name {
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q belongs to an earlier HeymarketWebhook of this name and is about to be removed.", kind, key.Name)
	} else {
		now.refuse(v1alpha1.ReasonChildNameTaken,
			"%s %q exists and does not belong to this HeymarketWebhook, so it is left alone: delete or rename it, or give the HeymarketWebhook another name.",
			kind, key.Name)
	}
	return none, nil
}

// checkReferences looks at every key of a Secret that the spec refers to. It reads the Secrets from the API server, each
// once, so that the operator's memory holds none of them.
func (r *Reconciler) checkReferences(ctx context.Context, now *round) error {
	secrets := map[string]*corev1.Secret{} // nil for one that does not exist
	for _, ref := range desired.References(now.hook) {
		secret, read := secrets[ref.Secret]
		if !read {
			secret = &corev1.Secret{}
			err := r.Live.Get(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: ref.Secret}, secret)
			if apierrors.IsNotFound(err) {
				secret = nil
			} else if err != nil {
				return fmt.Errorf("read Secret %s of %s: %w", ref.Secret, ref.Field, err)
			}
			secrets[ref.Secret] = secret
		}
		now.checkReference(ref, secret)
	}
	return nil
}

func (now *round) checkReference(ref desired.Reference, secret *corev1.Secret) {
	noSecret, noKey, empty := v1alpha1.ReasonSecretNotFound, v1alpha1.ReasonSecretKeyNotFound, v1alpha1.ReasonSecretValueInvalid
	if ref.Token {
		noSecret, noKey, empty = v1alpha1.ReasonTokenSecretNotFound, v1alpha1.ReasonTokenKeyNotFound, v1alpha1.ReasonTokenEmpty
	}
	if secret == nil {
		now.refuse(noSecret, "Secret %q of %s does not exist in namespace %q: create it with %s under the key %q.",
			ref.Secret, ref.Field, now.hook.Namespace, ref.Content, ref.Key)
		return
	}
	value, found := secret.Data[ref.Key]
	if !found {
		now.refuse(noKey, "Secret %q of %s has no key %q: add it with %s, or name the right key.",
			ref.Secret, ref.Field, ref.Key, ref.Content)
		return
	}
	if ref.Redis {
		now.input.OwnRedisURL = string(bytes.TrimSpace(value))
	}
	switch err := ref.Check(value); {
	case errors.Is(err, desired.ErrEmpty):
		now.refuse(empty, "Key %q of Secret %q of %s is empty: put %s into it.", ref.Key, ref.Secret, ref.Field, ref.Content)
	case err != nil:
		now.refuse(v1alpha1.ReasonSecretValueInvalid, "Key %q of Secret %q of %s cannot be used: %s.", ref.Key, ref.Secret, ref.Field, err)
	}
}

// checkTargets looks for the Services of targets, and at the addresses that are known. What is wrong with a target holds nothing
// up: the receiver keeps its events until it is mended.
func (r *Reconciler) checkTargets(ctx context.Context, now *round) error {
	for _, t := range now.hook.Spec.Targets {
		if now.missing != nil {
			break
		}
		var service *corev1.Service
		if t.Service != nil {
			service = &corev1.Service{}
			err := r.Live.Get(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: t.Service.Name}, service)
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("read Service %s of target %s: %w", t.Service.Name, t.Name, err)
			}
			if err != nil {
				now.missing = &verdict{reason: v1alpha1.ReasonTargetServiceNotFound, message: fmt.Sprintf(
					"Service %q of spec.targets[%s].service does not exist in namespace %q: create it, or name the right one. The events for this target are kept meanwhile.",
					t.Service.Name, t.Name, now.hook.Namespace)}
				break
			}
		}
		now.checkTarget(t, service)
	}
	return nil
}

func (now *round) checkTarget(t v1alpha1.Target, service *corev1.Service) {
	field := fmt.Sprintf("spec.targets[%s].url", t.Name)
	if service != nil {
		field = fmt.Sprintf("spec.targets[%s].service", t.Name)
	}
	refused := now.input.TargetAddresses.RefusesTarget(t, service)
	switch {
	case service != nil && !offers(service, t.Service.Port):
		now.missing = &verdict{reason: v1alpha1.ReasonTargetPortNotFound, message: fmt.Sprintf(
			"Service %q has no port %d, which is the one of spec.targets[%s].service.port: name one of its ports (kubectl get service %s). The events for this target are kept meanwhile.",
			t.Service.Name, t.Service.Port, t.Name, t.Service.Name)}
	case refused != nil:
		remedy := "name another one"
		if refused.Private {
			remedy += ", or have the operator's --target-addresses allow its network"
		}
		now.missing = &verdict{reason: v1alpha1.ReasonTargetAddressRefused, message: fmt.Sprintf(
			"Receivers send nothing to %s of %s, which is a %s address: %s. The events for this target are kept meanwhile.", refused.Address, field, refused.Kind, remedy)}
	}
}

// checkCertificate looks for the Secret of the Ingress's certificate. The Ingress is made before it: cert-manager needs one.
func (r *Reconciler) checkCertificate(ctx context.Context, now *round) error {
	name := desired.TLSSecretName(now.hook)
	if name == "" {
		return nil
	}
	secret := &corev1.Secret{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: name}, secret)
	switch {
	case apierrors.IsNotFound(err):
		now.uncertified = fmt.Sprintf("does not exist in namespace %q", now.hook.Namespace)
	case err != nil:
		return fmt.Errorf("read Secret %s of spec.exposure.ingress.tlsSecretName: %w", name, err)
	case len(secret.Data[corev1.TLSCertKey]) == 0:
		now.uncertified = fmt.Sprintf("has nothing under the key %q", corev1.TLSCertKey)
	case len(secret.Data[corev1.TLSPrivateKeyKey]) == 0:
		now.uncertified = fmt.Sprintf("has nothing under the key %q", corev1.TLSPrivateKeyKey)
	}
	return nil
}

// offers says whether a connection to the port can reach something. Behind a name that resolves to the Pods themselves,
// or to another host, the Service does not say.
func offers(s *corev1.Service, port int32) bool {
	return s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone ||
		slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
}

// resolveHost climbs the ladder: the resource, the operator's template, then what the cluster says.
func (r *Reconciler) resolveHost(now *round) {
	in, hook := &now.input, now.hook
	host, err := r.Settings.host(hook)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration,
			"The operator's --host-template makes no valid host for this resource (%s): set spec.exposure.host.", err)
	}
	if h := hook.Spec.Exposure.Host; h != "" && !r.Settings.AllowedHosts.Allow(hook.Namespace, hook.Name, h) {
		now.refuse(v1alpha1.ReasonHostNotAllowed,
			"Host %q of spec.exposure.host is not one that namespace %q may claim: choose another, remove it, or have the operator's --allowed-hosts permit it.",
			h, hook.Namespace)
	}
	if in.Host, in.HostRequested = host, host != ""; in.HostRequested {
		return
	}
	switch hook.Spec.Exposure.Type {
	case v1alpha1.ExposureHTTPRoute:
		return
	case v1alpha1.ExposureNone:
		in.Host = desired.ServiceHost(hook.Namespace, hook.Name)
		return
	}
	in.Host = ingressAddress(now.children.ingress)
}

// resolveConflict looks for an older resource with the same claim.
func (r *Reconciler) resolveConflict(ctx context.Context, now *round) error {
	claims := r.Settings.claims(now.hook)
	if len(claims) == 0 || !now.accepted() {
		return nil
	}
	others, err := r.Claimants(ctx, claims[0])
	if err != nil {
		return err
	}
	for _, other := range others {
		if older(other, now.hook) && (now.rival == nil || older(other, now.rival)) {
			now.rival = other
		}
	}
	now.input.Conflict = now.rival != nil
	return nil
}

// resolveAddress keeps the segment that is in use. A new one is made up only when everything else is good, and only after
// the API server itself has said what there is (see readChild for one that does not exist).
func (r *Reconciler) resolveAddress(ctx context.Context, now *round) error {
	at, told := time.Now(), now.hook.Status.URLRevision
	configData := data(now.children.configSecret)
	address := desired.FindAddress(data(now.children.urlSecret), configData, at)
	now.input.Address = address
	if !now.accepted() {
		return nil
	}
	served := desired.ServedPaths(configData)
	renewed := address.Revision < max(told, now.hook.Spec.Exposure.URLRevision)
	if s := now.children.urlSecret; s != nil && (renewed || address.Misses(now.hook, served)) {
		// The cache may not have seen yet that the URL is another one, and what it was before is kept nowhere else.
		fresh := &corev1.Secret{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s), fresh); err != nil {
			return fmt.Errorf("read Secret %s: %w", s.Name, err)
		}
		now.children.urlSecret = fresh
		address = desired.FindAddress(fresh.Data, configData, at)
	}
	address.Revision = max(address.Revision, told) // The Secret may have lost it.
	latest := ""
	if len(served) > 0 {
		latest = served[0]
	}
	address, err := address.Follow(now.hook, latest, at)
	if err != nil {
		now.refuse(v1alpha1.ReasonInvalidConfiguration, "%s", err)
		return nil
	}
	now.input.Address = address
	return nil
}

func data(s *corev1.Secret) map[string][]byte {
	if s == nil {
		return nil
	}
	return s.Data
}

// ingressAddress is what the ingress controller has published, or "".
func ingressAddress(i *networkingv1.Ingress) string {
	if i == nil {
		return ""
	}
	for _, a := range i.Status.LoadBalancer.Ingress {
		if a.Hostname != "" {
			return a.Hostname
		}
		if a.IP != "" {
			return a.IP
		}
	}
	return ""
}
