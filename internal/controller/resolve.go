package controller

import (
	"bytes"
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// unwatched says that no watch will tell when the mistake is repaired.
	unwatched bool
	// trouble is an error to return once the status is written.
	trouble error
	// rolled says that this round has changed the Deployment, so what is known of its status is out of date.
	rolled bool
}

// children are the child objects as they are, nil where there is none.
type children struct {
	urlSecret, configSecret *corev1.Secret
	service                 *corev1.Service
	deployment              *appsv1.Deployment
	ingress                 *networkingv1.Ingress
}

// resolve gathers every fact.
func (r *Reconciler) resolve(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*round, error) {
	now := &round{hook: hook}
	if err := r.readChildren(ctx, now); err != nil {
		return nil, err
	}
	if err := r.checkToken(ctx, now); err != nil {
		return nil, err
	}
	now.input = desired.Input{
		Webhook:      hook,
		RedisURL:     r.RedisURL(),
		Image:        r.Settings.ReceiverImage,
		IngressClass: r.Settings.IngressClass,
	}
	r.resolveHost(now)
	now.resolveSegment()
	return now, nil
}

// refuse notes a mistake. The first one stands: the ones after it may follow from it.
func (now *round) refuse(reason, format string, args ...any) {
	if now.refusal == nil {
		now.refusal = &verdict{reason: reason, message: fmt.Sprintf(format, args...)}
	}
}

func (now *round) accepted() bool { return now.refusal == nil }

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
	wantsIngress := now.hook.Spec.Exposure.Type != v1alpha1.ExposureNone

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
	if now.children.deployment, err = readChild(ctx, r, now, "Deployment", name, &appsv1.Deployment{}, true); err != nil {
		return err
	}
	now.children.ingress, err = readChild(ctx, r, now, "Ingress", name, &networkingv1.Ingress{}, wantsIngress)
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

// checkToken reads the user's Secret from the API server, so that the operator's memory holds no token, and looks at
// nothing but whether there is one.
func (r *Reconciler) checkToken(ctx context.Context, now *round) error {
	ref := now.hook.Spec.Token.SecretKeyRef
	secret := &corev1.Secret{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: now.hook.Namespace, Name: ref.Name}, secret)
	if apierrors.IsNotFound(err) {
		now.refuse(v1alpha1.ReasonTokenSecretNotFound,
			"Secret %q of spec.token.secretKeyRef does not exist in namespace %q: create it with the webhook's verification token under the key %q.",
			ref.Name, now.hook.Namespace, ref.Key)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Secret %s of spec.token.secretKeyRef: %w", ref.Name, err)
	}
	token, found := secret.Data[ref.Key]
	switch {
	case !found:
		now.refuse(v1alpha1.ReasonTokenKeyNotFound,
			"Secret %q of spec.token.secretKeyRef has no key %q: add it with the webhook's verification token, or name the right key.",
			ref.Name, ref.Key)
	case len(bytes.TrimSpace(token)) == 0:
		now.refuse(v1alpha1.ReasonTokenEmpty,
			"Key %q of Secret %q of spec.token.secretKeyRef is empty: put the webhook's verification token into it.",
			ref.Key, ref.Name)
	}
	return nil
}

// resolveHost climbs the ladder: the resource, the operator's template, then what the cluster says.
func (r *Reconciler) resolveHost(now *round) {
	in, hook := &now.input, now.hook
	if in.Host = hook.Spec.Exposure.Host; in.Host == "" && r.Settings.HostTemplate != nil {
		host, err := r.Settings.HostTemplate.Host(hook.Namespace, hook.Name)
		if err != nil {
			now.refuse(v1alpha1.ReasonInvalidConfiguration,
				"The operator's --host-template makes no valid host for this resource (%s): set spec.exposure.host.", err)
		}
		in.Host = host
	}
	if in.HostRequested = in.Host != ""; in.HostRequested {
		return
	}
	if hook.Spec.Exposure.Type == v1alpha1.ExposureNone {
		in.Host = desired.ServiceHost(hook.Namespace, hook.Name)
		return
	}
	in.Host = ingressAddress(now.children.ingress)
}

// resolveSegment keeps the segment that is in use. A new one is made up only when everything else is good, and only
// after the API server itself has said that there is none (see readChild).
func (now *round) resolveSegment() {
	var urlData, configData map[string][]byte
	if s := now.children.urlSecret; s != nil {
		urlData = s.Data
	}
	if s := now.children.configSecret; s != nil {
		configData = s.Data
	}
	now.input.Segment = desired.FindSegment(urlData, configData)
	if now.input.Segment == "" && now.accepted() {
		now.input.Segment = desired.NewSegment()
	}
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
