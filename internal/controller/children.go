package controller

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
)

// readChildren reads every child of Table that may exist.
func (r *Reconciler) readChildren(ctx context.Context, f *condition.Facts, live bool) error {
	f.Children = desired.Children{}
	for _, c := range desired.Table {
		obj, taken, err := r.readChild(ctx, f.Webhook, c, c.Wanted(f.Input), live)
		switch {
		case err != nil:
			return err
		case obj != nil:
			f.Children[c] = obj
		case taken != nil:
			f.Taken = append(f.Taken, *taken)
		}
	}
	f.Input.FirstReplicas = desired.Deployment.In(f.Children) == nil
	return nil
}

// readChild returns the object, or nil if there is none. If live is true, a wanted child that is missing from the cache is read
// from the API server: it may be too new for the cache, may have lost its label, or may belong to another owner. Usually it does
// not exist, so live is set only where there is a sign that it does. An object that the operator created and that has lost
// its owner is adopted. Any other object with the name of a wanted child counts as Taken: it is not read, changed or deleted. Of an
// unwanted optional child only the metadata is read, only from a cache: a resource that never had one costs no request.
func (r *Reconciler) readChild(ctx context.Context, hook *v1alpha1.HeymarketWebhook, c *desired.Child, wanted, live bool) (client.Object, *condition.Taken, error) {
	if !r.served(c) {
		return nil, nil, nil
	}
	obj, key := client.Object(c.New()), childKey(hook, c)
	if c.Optional && !wanted {
		obj = c.Metadata()
	}
	err := r.Client.Get(ctx, key, obj)
	if err == nil && isHollow(obj) {
		reflect.ValueOf(obj).Elem().SetZero()
		err = r.Live.Get(ctx, key, obj)
	}
	if apierrors.IsNotFound(err) && wanted && live {
		err = r.Live.Get(ctx, key, obj)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read %s %s: %w", c.Kind, key.Name, err)
	case metav1.IsControlledBy(obj, hook):
		return obj, nil, nil
	}
	adopted, err := r.adopt(ctx, hook, obj)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("adopt %s %s: %w", c.Kind, key.Name, err)
	case adopted:
		return obj, nil, nil
	case wanted:
		return nil, &condition.Taken{Child: c, Name: key.Name, Deleting: !obj.GetDeletionTimestamp().IsZero()}, nil
	}
	return nil, nil, nil
}

// nameTaken reports whether the status says that a child's name belongs to another owner.
func nameTaken(hook *v1alpha1.HeymarketWebhook) bool {
	accepted := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionAccepted)
	return accepted != nil && accepted.Reason == v1alpha1.ReasonChildNameTaken
}

// OptionalKinds knows the kinds that not every cluster serves.
type OptionalKinds interface {
	// Served reports whether the API server serves the kind and its objects are watched.
	Served(kind schema.GroupVersionKind) bool
}

// served reports whether the cluster has the kind of the child.
func (r *Reconciler) served(c *desired.Child) bool {
	return !c.Optional || r.OptionalKinds.Served(c.GroupVersionKind)
}

func childKey(hook *v1alpha1.HeymarketWebhook, c *desired.Child) client.ObjectKey {
	return client.ObjectKey{Namespace: hook.Namespace, Name: c.ObjectName(hook.Name)}
}
