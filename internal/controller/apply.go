package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/desired"
)

// apply sends the children that differ. Secrets go first, because Pods mount them, and the NetworkPolicy before there
// are Pods that it is about.
func (r *Reconciler) apply(ctx context.Context, now *round, want desired.Objects) error {
	if !now.accepted() {
		return nil
	}
	is := now.children
	if _, err := applyChild(ctx, r, now, is.urlSecret, want.URLSecret); err != nil {
		return err
	}
	if _, err := applyChild(ctx, r, now, is.configSecret, want.ConfigSecret); err != nil {
		return err
	}
	if _, err := applyChild(ctx, r, now, is.service, want.Service); err != nil {
		return err
	}
	if want.NetworkPolicy != nil {
		if _, err := applyChild(ctx, r, now, is.policy, want.NetworkPolicy); err != nil {
			return err
		}
	}
	if err := r.applyDeployment(ctx, now, want); err != nil {
		return err
	}
	if want.DisruptionBudget != nil {
		if _, err := applyChild(ctx, r, now, is.budget, want.DisruptionBudget); err != nil {
			return err
		}
	}
	if err := r.applyScaler(ctx, now, want); err != nil {
		return err
	}
	if want.Ingress != nil {
		if _, err := applyChild(ctx, r, now, is.ingress, want.Ingress); err != nil {
			return err
		}
	}
	if want.HTTPRoute != nil && !now.noGateways {
		return r.applyExtension(ctx, now, is.route, want.HTTPRoute)
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
	is := now.children.deployment
	answer, err := applyChild(ctx, r, now, is, want.Deployment)
	// A write that admission turned into what was there rolls nothing out.
	now.rolled = answer != nil && (is == nil || answer.GetGeneration() > is.Generation)
	return err
}

// applyConfiguration is what the generated apply configurations have in common.
type applyConfiguration[A any] interface {
	runtime.ApplyConfiguration
	GetKind() *string
	GetName() *string
	WithAnnotations(entries map[string]string) A
}

// applyChild applies want unless it is what the operator last asked for, see applyObject.
func applyChild[L client.Object, A applyConfiguration[A]](ctx context.Context, r *Reconciler, now *round, is L, want A) (client.Object, error) {
	answer := reflect.New(reflect.TypeFor[L]().Elem()).Interface().(L)
	answer.SetNamespace(now.hook.Namespace)
	answer.SetName(*want.GetName())
	return r.applyObject(ctx, now, existing(is), application{
		kind: *want.GetKind(), config: want, answer: answer,
		annotate: func(annotations map[string]string) { want.WithAnnotations(annotations) },
	})
}

// application is one child as it is sent to the API server.
type application struct {
	kind   string
	config runtime.ApplyConfiguration
	// annotate adds annotations to config.
	annotate func(map[string]string)
	// answer has the child's namespace and name, and becomes the API server's answer.
	answer client.Object
}

// applyObject applies want unless the operator has asked for the same before and still owns all of it. What the API server,
// an admission policy or a webhook made of it is not compared: admission would change it again in the same way. A field
// that another manager has changed no longer belongs to the operator, so it is written again; when that repeats, ever less
// often, and a condition says so. A child that the API server refuses or fails to store is noted in now and stops the
// round's further writes. It returns the API server's answer, or nil if it has not written.
func (r *Reconciler) applyObject(ctx context.Context, now *round, is client.Object, want application) (client.Object, error) {
	if !now.writes() {
		return nil, nil
	}
	kind, name := want.kind, want.answer.GetName()
	asked, err := json.Marshal(want.config)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", kind, name, err)
	}
	digest := digestOf(asked)
	if is != nil {
		needed, err := r.applied.needed(is, asked, digest)
		if err != nil {
			return nil, fmt.Errorf("read what the operator owns of %s %s: %w", kind, name, err)
		}
		if !needed {
			return nil, nil
		}
		wait, repeated := r.applied.delay(is.GetUID(), digest, time.Now())
		if repeated {
			now.overwritten(kind, name, wait)
		}
		if wait > 0 {
			return nil, nil
		}
	}
	want.annotate(map[string]string{annotationApplied: digest})
	marked, err := json.Marshal(want.config)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", kind, name, err)
	}
	// Not Client.Apply: it would merge the answer into what was asked for, without the managed fields.
	err = r.Client.Patch(ctx, want.answer, client.RawPatch(types.ApplyPatchType, marked), client.FieldOwner(FieldOwner), client.ForceOwnership)
	wrote, err := now.applied(err, kind, name)
	if !wrote {
		return nil, err
	}
	log.FromContext(ctx).Info("Applied", "child", kind+"/"+name)
	if err := r.applied.remember(want.answer, asked, digest, time.Now()); err != nil {
		return nil, fmt.Errorf("read the answer to %s %s: %w", kind, name, err)
	}
	return want.answer, nil
}

// existing makes a nil pointer a nil interface.
func existing[L client.Object](obj L) client.Object {
	if isNil(obj) {
		return nil
	}
	return obj
}

// failure is a child that the API server could not store or remove.
type failure struct {
	kind string
	verdict
}

const (
	refusedChild = "The API server refused %s %q; change the part of the spec, the quota or the policy that it names: %s"
	failedChild  = "The API server fails to store %s %q, and the operator tries again. If it lasts, repair what the answer names: %s"
	keptChild    = "The API server does not remove %s %q, which is no longer wanted, and the operator tries again. If it lasts, change the policy or repair what the answer names: %s"
)

// applied tells success from what is noted, because a person may have to do something, and from what is worth another
// try at once, which is returned. Of what is noted nothing tells when it changes, so that is tried again too.
func (now *round) applied(err error, kind, name string) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// The resource goes away with its namespace in a moment.
		now.refuse(v1alpha1.ReasonChildRefused, "The namespace is being deleted.")
		return false, nil
	case passing(err):
		return false, fmt.Errorf("apply %s %s: %w", kind, name, err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err), denied(err):
		// A value in the spec, a quota, an admission policy or webhook, or a right that the operator lacks.
		now.refuse(v1alpha1.ReasonChildRefused, refusedChild, kind, name, bounded(err.Error()))
	default:
		// An admission webhook that does not answer, no address left for a Service, or a kind that is just being uninstalled.
		now.failure = &failure{kind, verdict{reason: v1alpha1.ReasonChildFailed, message: fmt.Sprintf(failedChild, kind, name, bounded(err.Error()))}}
	}
	now.trouble = fmt.Errorf("apply %s %s: %w", kind, name, err)
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
	is := &now.children
	if !now.accepted() && now.conflicts() {
		if err := pruneChild(ctx, r, now, "Ingress", &is.ingress, false); err != nil {
			return err
		}
		return pruneChild(ctx, r, now, "HTTPRoute", &is.route, false)
	}
	if !now.writes() {
		return nil
	}
	if err := r.pruneScalers(ctx, now, want); err != nil {
		return err
	}
	if err := pruneChild(ctx, r, now, "PodDisruptionBudget", &is.budget, want.DisruptionBudget != nil); err != nil {
		return err
	}
	if err := pruneChild(ctx, r, now, "NetworkPolicy", &is.policy, want.NetworkPolicy != nil); err != nil {
		return err
	}
	// In a conflict, what stands somewhere else is not in the rival's way.
	elsewhere := now.rival != nil && is.ingress != nil && !claimsHost(is.ingress, now.input.Host)
	if err := pruneChild(ctx, r, now, "Ingress", &is.ingress, want.Ingress != nil || elsewhere); err != nil {
		return err
	}
	elsewhere = now.rival != nil && is.route != nil && !routesHost(is.route, now.input.Host)
	return pruneChild(ctx, r, now, "HTTPRoute", &is.route, want.HTTPRoute != nil || elsewhere)
}

func claimsHost(i *networkingv1.Ingress, host string) bool {
	return slices.ContainsFunc(i.Spec.Rules, func(r networkingv1.IngressRule) bool { return r.Host == host })
}

// pruneChild deletes the child unless it is wanted, and forgets it. That the API server does not let it go is noted in now;
// the other children are not concerned.
func pruneChild[L client.Object](ctx context.Context, r *Reconciler, now *round, kind string, child *L, wanted bool) error {
	if wanted || isNil(*child) || !(*child).GetDeletionTimestamp().IsZero() {
		return nil
	}
	err := deleteChild(ctx, r, kind, *child)
	switch {
	case err == nil:
		var none L
		*child = none
	case passing(err):
		return err
	default:
		now.leftover = &failure{kind, verdict{reason: v1alpha1.ReasonChildFailed, message: fmt.Sprintf(keptChild, kind, (*child).GetName(), bounded(apiMessage(err)))}}
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

// isNil tells a nil pointer in an interface; the type parameter hides it from a plain comparison.
func isNil[L client.Object](obj L) bool {
	var none L
	return any(obj) == any(none)
}

// bounded keeps a message of the API server to a length that a status can carry.
func bounded(s string) string {
	const limit = 1024
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
