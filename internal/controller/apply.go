package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// apply sends the children that differ, in the order of Table.
func (r *Reconciler) apply(ctx context.Context, now *round, want desired.Objects) error {
	for _, w := range want.Children {
		if !now.writes() {
			return nil
		}
		if w.Object == nil || !r.served(w.Child) {
			continue
		}
		err := r.pruneExclusive(ctx, now, want, w.Exclusive)
		switch {
		case err != nil:
		case w.Exclusive != "" && now.leftover != nil: // It would work against the one that stays.
		case w.Child == desired.Deployment.Child:
			err = r.applyDeployment(ctx, now, want)
		default:
			_, err = r.applyChild(ctx, now, w.Child, w.Object)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pruneExclusive deletes the unwanted children of a group of which at most one may exist.
func (r *Reconciler) pruneExclusive(ctx context.Context, now *round, want desired.Objects, group string) error {
	for _, other := range want.Children {
		if group == "" || other.Exclusive != group || other.Object != nil {
			continue
		}
		if err := r.pruneChild(ctx, now, other.Child); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) applyDeployment(ctx context.Context, now *round, want desired.Objects) error {
	if now.held {
		return nil
	}
	if err := r.handOverReplicas(ctx, now, want); err != nil {
		return err
	}
	template, err := templateDigest(want.Deployment)
	if err != nil {
		return err
	}
	want.Deployment.WithAnnotations(map[string]string{annotationAppliedTemplate: template})
	is := desired.Deployment.In(now.children)
	answer, err := r.applyChild(ctx, now, desired.Deployment.Child, want.Deployment)
	// A write that admission turned into what was there rolls nothing out.
	now.rolled = answer != nil && (is == nil || answer.GetGeneration() > is.Generation)
	return err
}

// applyChild applies want unless the operator has asked for the same before and still owns all of it. What the API server,
// an admission policy or a webhook made of it is not compared: admission would change it again in the same way. A field
// that another manager has changed no longer belongs to the operator, so it is written again; when that repeats, ever less
// often, and a condition reports it. A child that the API server rejects or fails to store is noted in now and stops further
// writes. It returns the API server's answer, or nil if it has not written.
func (r *Reconciler) applyChild(ctx context.Context, now *round, c *desired.Child, want any) (client.Object, error) {
	if !now.writes() {
		return nil, nil //nolint:nilnil // nothing was written
	}
	name := c.ObjectName(now.hook.Name)
	asked, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", c.Kind, name, err)
	}
	digest := digestOf(asked)
	if is := now.children[c]; is != nil {
		needed, err := r.applied.needed(is, asked, digest)
		if err != nil {
			return nil, fmt.Errorf("read what the operator owns of %s %s: %w", c.Kind, name, err)
		}
		if !needed {
			return nil, nil //nolint:nilnil // nothing was written
		}
		wait, repeated := r.applied.delay(is.GetUID(), digest, time.Now())
		if repeated {
			now.overwritten(c, name, wait)
		}
		if wait > 0 {
			return nil, nil //nolint:nilnil // nothing was written
		}
	}
	marked, err := withAnnotation(asked, annotationApplied, digest)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", c.Kind, name, err)
	}
	answer := c.New()
	answer.SetNamespace(now.hook.Namespace)
	answer.SetName(name)
	err = r.Client.Patch(ctx, answer, client.RawPatch(types.ApplyPatchType, marked), client.FieldOwner(FieldOwner), client.ForceOwnership)
	wrote, err := now.applied(err, c, name)
	if !wrote {
		return nil, err
	}
	log.FromContext(ctx).Info("Applied", "child", c.Kind+"/"+name)
	if err := r.applied.remember(answer, asked, digest, time.Now()); err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", c.Kind, name, err)
	}
	return answer, nil
}

// withAnnotation adds an annotation to an encoded object.
func withAnnotation(object []byte, name, value string) ([]byte, error) {
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(object); err != nil {
		return nil, err
	}
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[name] = value
	u.SetAnnotations(annotations)
	return u.MarshalJSON()
}

// failure is a child that the API server could not store or remove.
type failure struct {
	child *desired.Child
	verdict
}

const (
	refusedChild = "The API server refused %s %q; change the part of the spec, the quota or the policy that it names: %s"
	failedChild  = "The API server fails to store %s %q, and the operator tries again. If it lasts, repair what the answer names: %s"
	keptChild    = "The API server does not remove %s %q, which is no longer wanted, and the operator tries again. If it lasts, change the policy or repair what the answer names: %s"
)

// applied tells success from what is noted, because a person may have to do something, and from what is worth another
// try at once, which is returned. Of what is noted nothing tells when it changes, so that is tried again too.
func (now *round) applied(err error, c *desired.Child, name string) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// The resource goes away with its namespace in a moment.
		now.refuse(v1alpha1.ReasonChildRefused, "The namespace is being deleted.")
		return false, nil
	case passing(err):
		return false, fmt.Errorf("apply %s %s: %w", c.Kind, name, err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err), denied(err):
		// A value in the spec, a quota, an admission policy or webhook, or a right that the operator lacks.
		now.refuse(v1alpha1.ReasonChildRefused, refusedChild, c.Kind, name, bounded(err.Error()))
	default:
		// An admission webhook that does not answer, no address left for a Service, or a kind that is just being uninstalled.
		now.failure = &failure{c, verdict{reason: v1alpha1.ReasonChildFailed, message: fmt.Sprintf(failedChild, c.Kind, name, bounded(err.Error()))}}
	}
	now.trouble = fmt.Errorf("apply %s %s: %w", c.Kind, name, err)
	return false, nil
}

// passing says of an error that the next try may well succeed, or that nothing could be written about it either. Any other is
// an answer of the API server, and stands until somebody does something.
func passing(err error) bool {
	if status := apierrors.APIStatus(nil); !errors.As(err, &status) {
		return true // It did not answer.
	}
	return !denied(err) && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err))
}

// denials are the words of the API server about an admission webhook and an admission policy. They may choose any code and
// reason for it, such as those of a conflict.
var denials = regexp.MustCompile(`^admission webhook "[^"]*" denied the request|ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request`)

func denied(err error) bool { return denials.MatchString(apiMessage(err)) }

func apiMessage(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return ""
}

// prune deletes what is no longer wanted. A person's mistake deletes nothing but a route that takes what belongs to another
// resource.
func (r *Reconciler) prune(ctx context.Context, now *round, want desired.Objects) error {
	if !now.accepted() && now.conflicts() {
		return r.eachRoute(func(c *desired.Child) error { return r.pruneChild(ctx, now, c) })
	}
	for _, w := range want.Children {
		if !now.writes() {
			return nil
		}
		if w.Object != nil || now.elsewhere(w.Child) {
			continue
		}
		if err := r.pruneChild(ctx, now, w.Child); err != nil {
			return err
		}
	}
	return nil
}

// eachRoute calls f for the children that lead events to the receiver, until it returns an error.
func (r *Reconciler) eachRoute(f func(*desired.Child) error) error {
	for _, c := range desired.Table {
		if c.Condition != v1alpha1.ConditionExposed {
			continue
		}
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere reports whether a child that is not wanted has another host than the one that a rival keeps, and so may stay.
func (now *round) elsewhere(c *desired.Child) bool {
	if now.rival == nil {
		return false
	}
	switch c {
	case desired.Ingress.Child:
		i := desired.Ingress.In(now.children)
		return i != nil && !claimsHost(i, now.input.Host)
	case desired.HTTPRoute.Child:
		route := desired.HTTPRoute.In(now.children)
		return route != nil && !routesHost(route, now.input.Host)
	}
	return false
}

func claimsHost(i *networkingv1.Ingress, host string) bool {
	return slices.ContainsFunc(i.Spec.Rules, func(r networkingv1.IngressRule) bool { return r.Host == host })
}

// pruneChild deletes the child, and forgets it. That the API server does not let it go is noted in now; the other children
// are not concerned.
func (r *Reconciler) pruneChild(ctx context.Context, now *round, c *desired.Child) error {
	is := now.children[c]
	if is == nil || !is.GetDeletionTimestamp().IsZero() {
		return nil
	}
	err := deleteChild(ctx, r, c.Kind, is)
	switch {
	case err == nil:
		delete(now.children, c)
	case passing(err):
		return err
	default:
		now.leftover = &failure{c, verdict{reason: v1alpha1.ReasonChildFailed, message: fmt.Sprintf(keptChild, c.Kind, is.GetName(), bounded(apiMessage(err)))}}
		now.trouble = err
	}
	return nil
}

// deleteChild deletes exactly the child that was looked at; that it is gone already is no error.
func deleteChild(ctx context.Context, r *Reconciler, kind string, child client.Object, opts ...client.DeleteOption) error {
	err := r.Client.Delete(ctx, child, append(opts, client.Preconditions{UID: new(child.GetUID())})...)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s %s: %w", kind, child.GetName(), err)
	}
	log.FromContext(ctx).Info("Deleted", "child", kind+"/"+child.GetName())
	return nil
}

// bounded keeps a message of the API server to a length that a status can carry.
func bounded(s string) string {
	const limit = 1024
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
