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
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// apply writes the children that differ, in the order of Table.
func (r *Reconciler) apply(ctx context.Context, f condition.Facts) (w condition.Writes, err error) {
	for _, want := range f.Want.Children {
		if want.Object == nil || !r.served(want.Child) {
			continue
		}
		err := r.pruneExclusive(ctx, f, &w, want.Exclusive)
		switch {
		case err != nil:
		case want.Exclusive != "" && w.Undeleted != nil: // It would conflict with the one that stays.
		case want.Child == desired.Deployment.Child:
			err = r.applyDeployment(ctx, f, &w)
		default:
			_, err = r.applyChild(ctx, f, &w, want.Child, want.Object)
		}
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

// pruneExclusive deletes the unwanted children of an exclusive group.
func (r *Reconciler) pruneExclusive(ctx context.Context, f condition.Facts, w *condition.Writes, group string) error {
	for _, other := range f.Want.Children {
		if group == "" || other.Exclusive != group || other.Object != nil || !condition.MayWrite(f, *w) {
			continue
		}
		if err := r.pruneChild(ctx, f, w, other.Child); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) applyDeployment(ctx context.Context, f condition.Facts, w *condition.Writes) error {
	if f.Held {
		return nil
	}
	if err := r.handOverReplicas(ctx, f, w); err != nil {
		return err
	}
	template, err := templateDigest(f.Want.Deployment)
	if err != nil {
		return err
	}
	f.Want.Deployment.WithAnnotations(map[string]string{annotationAppliedTemplate: template})
	is := desired.Deployment.In(f.Children)
	answer, err := r.applyChild(ctx, f, w, desired.Deployment.Child, f.Want.Deployment)
	// If admission changes the write back to the stored object, nothing rolls out.
	w.DeploymentWritten = answer != nil && (is == nil || answer.GetGeneration() > is.Generation)
	return err
}

// applyChild applies want unless the operator has applied the same before and still owns all of it. Changes made to it by the
// API server, an admission policy or a webhook are not compared: admission would make them again. A field that another manager
// has changed no longer belongs to the operator, so it is written again; if that repeats, at increasing intervals, and a
// condition reports it. A child that the API server rejects or fails to store is recorded in w and stops further writes. It
// returns the API server's answer, or nil if nothing was written.
func (r *Reconciler) applyChild(ctx context.Context, f condition.Facts, w *condition.Writes, c *desired.Child, want any) (client.Object, error) {
	if !condition.MayWrite(f, *w) {
		return nil, nil //nolint:nilnil // nothing was written
	}
	name := c.ObjectName(f.Webhook.Name)
	asked, err := json.Marshal(want)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", c.Kind, name, err)
	}
	digest := digestOf(asked)
	is := f.Children[c]
	if is != nil {
		needed, err := r.applied.needed(is, asked, digest)
		if err != nil {
			return nil, fmt.Errorf("read what the operator owns of %s %s: %w", c.Kind, name, err)
		}
		if !needed {
			return nil, nil //nolint:nilnil // nothing was written
		}
		wait, repeated := r.applied.delay(is.GetUID(), digest, time.Now())
		if repeated {
			w.Overwritten, w.NextWrite = &condition.Failure{Child: c, Name: name}, max(wait, time.Second)
		}
		if wait > 0 {
			return nil, nil //nolint:nilnil // nothing was written
		}
	}
	patch, err := marked(asked, digest, is == nil)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", c.Kind, name, err)
	}
	answer := c.New()
	answer.SetNamespace(f.Webhook.Namespace)
	answer.SetName(name)
	err = r.Client.Patch(ctx, answer, client.RawPatch(types.ApplyPatchType, patch), client.FieldOwner(FieldOwner), client.ForceOwnership)
	if wrote, err := noteAnswer(w, err, c, name); !wrote {
		return nil, err
	}
	log.FromContext(ctx).Info("Applied", "child", c.Kind+"/"+name)
	if err := r.applied.remember(answer, asked, digest, time.Now()); err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", c.Kind, name, err)
	}
	return answer, nil
}

// noVersion is a resource version that no stored object has: etcd's first write already gets a later one. An apply that names it
// creates an object, or is answered by a conflict if there is one of that name: it need not be read first.
const noVersion = "1"

// marked adds the digest to an encoded object. If create is true, applying it does not change an object that exists: the caches may
// lack it, or another owner may have created it since.
func marked(object []byte, digest string, create bool) ([]byte, error) {
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(object); err != nil {
		return nil, err
	}
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationApplied] = digest
	u.SetAnnotations(annotations)
	if create {
		u.SetResourceVersion(noVersion)
	}
	return u.MarshalJSON()
}

// noteAnswer records an error that may need a person in w, and returns an error that is worth an immediate retry. No watch
// reports when the cause of a recorded error changes, so that is retried too.
func noteAnswer(w *condition.Writes, err error, c *desired.Child, name string) (wrote bool, transient error) {
	failure := &condition.Failure{Child: c, Name: name, Err: err}
	switch {
	case err == nil:
		return true, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		w.Rejected = failure // The resource is about to be deleted with its namespace.
		return false, nil
	case isTransient(err):
		return false, fmt.Errorf("apply %s %s: %w", c.Kind, name, err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err), denied(err):
		// A value in the spec, a quota, an admission policy or webhook, or a missing right of the operator.
		w.Rejected = failure
	default:
		// An admission webhook that does not answer, no free address for a Service, or a kind that is being uninstalled.
		w.Failed = failure
	}
	w.Err = fmt.Errorf("apply %s %s: %w", c.Kind, name, err)
	return false, nil
}

// isTransient reports whether a retry is likely to succeed, or nothing could be written about the error either. Any other
// error is an answer of the API server that persists until a person acts.
func isTransient(err error) bool {
	if status := apierrors.APIStatus(nil); !errors.As(err, &status) {
		return true // It did not answer.
	}
	return !denied(err) && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err))
}

// denials matches the API server's messages about an admission webhook or policy, which may choose any code and reason, such
// as those of a conflict.
var denials = regexp.MustCompile(`^admission webhook "[^"]*" denied the request|ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request`)

func denied(err error) bool { return denials.MatchString(condition.APIMessage(err)) }

// prune deletes unwanted children. After a mistake in the spec it deletes nothing except a route that takes over another
// resource's requests.
func (r *Reconciler) prune(ctx context.Context, f condition.Facts, w condition.Writes) (condition.Writes, error) {
	if f.Mistake != nil && f.Conflicts() {
		err := r.eachRoute(func(c *desired.Child) error { return r.pruneChild(ctx, f, &w, c) })
		return w, err
	}
	for _, want := range f.Want.Children {
		if !condition.MayWrite(f, w) {
			break
		}
		if want.Object != nil || elsewhere(f, want.Child) {
			continue
		}
		if err := r.pruneChild(ctx, f, &w, want.Child); err != nil {
			return w, err
		}
	}
	return w, nil
}

// eachRoute calls f for the children that route events to the receiver, until it returns an error.
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

// elsewhere reports whether an unwanted route has another host than the one that a rival keeps, and so may stay.
func elsewhere(f condition.Facts, c *desired.Child) bool {
	if f.Rival == nil {
		return false
	}
	switch c {
	case desired.Ingress.Child:
		i := desired.Ingress.In(f.Children)
		return i != nil && !slices.ContainsFunc(i.Spec.Rules, func(rule networkingv1.IngressRule) bool { return rule.Host == f.Input.Host })
	case desired.HTTPRoute.Child:
		route := desired.HTTPRoute.In(f.Children)
		return route != nil && !slices.Contains(routeHosts(route), f.Input.Host)
	}
	return false
}

// pruneChild deletes the child. A failed deletion is recorded in w; other children are not affected.
func (r *Reconciler) pruneChild(ctx context.Context, f condition.Facts, w *condition.Writes, c *desired.Child) error {
	is := f.Children[c]
	if is == nil || !is.GetDeletionTimestamp().IsZero() || slices.Contains(w.Deleted, c) {
		return nil
	}
	err := deleteChild(ctx, r, c.Kind, is)
	switch {
	case err == nil:
		w.Deleted = append(w.Deleted, c)
	case isTransient(err):
		return err
	default:
		w.Undeleted, w.Err = &condition.Failure{Child: c, Name: is.GetName(), Err: err}, err
	}
	return nil
}

// deleteChild deletes exactly the given child; it is not an error if it no longer exists.
func deleteChild(ctx context.Context, r *Reconciler, kind string, child client.Object, opts ...client.DeleteOption) error {
	err := r.Client.Delete(ctx, child, append(opts, client.Preconditions{UID: new(child.GetUID())})...)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s %s: %w", kind, child.GetName(), err)
	}
	log.FromContext(ctx).Info("Deleted", "child", kind+"/"+child.GetName())
	return nil
}
