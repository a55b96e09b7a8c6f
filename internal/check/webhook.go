package check

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/api/v1alpha1"
)

// period is how often the API server is polled. Polling needs only the right to read these objects; watching would need the right
// to list all of them.
const period = 500 * time.Millisecond

// webhook is the temporary HeymarketWebhook, with the Secret of the same name that holds its token.
type webhook struct {
	client          client.Client
	namespace, name string
}

func (w webhook) make(ctx context.Context, token, target string, pullSecrets []string) error {
	about := metav1.ObjectMeta{Namespace: w.namespace, Name: w.name, Labels: map[string]string{"app.kubernetes.io/component": "check"}}
	secret := &corev1.Secret{ObjectMeta: about, StringData: map[string]string{"token": token}}
	if err := w.client.Create(ctx, secret); err != nil {
		return fmt.Errorf("make a Secret: %w", err)
	}
	hook := &v1alpha1.HeymarketWebhook{ObjectMeta: about, Spec: v1alpha1.HeymarketWebhookSpec{
		Token:    v1alpha1.Token{SecretKeyRef: v1alpha1.TokenReference{Name: w.name, Key: "token"}},
		Targets:  []v1alpha1.Target{{Name: "check", URL: &target}},
		Exposure: v1alpha1.Exposure{Type: v1alpha1.ExposureNone},
		Receiver: v1alpha1.Receiver{Replicas: new(int32(1))},
		// It leaves nothing in Redis either.
		DeletionPolicy: v1alpha1.DeletionDelete,
	}}
	for _, name := range pullSecrets {
		hook.Spec.Receiver.ImagePullSecrets = append(hook.Spec.Receiver.ImagePullSecrets, v1alpha1.LocalSecretReference{Name: name})
	}
	if err := w.client.Create(ctx, hook); err != nil {
		return fmt.Errorf("make a HeymarketWebhook: %w", err)
	}
	return nil
}

// awaitReady waits until the webhook is Ready. On timeout, the error quotes its conditions.
func (w webhook) awaitReady(ctx context.Context) error {
	hook := &v1alpha1.HeymarketWebhook{}
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		if err := w.client.Get(ctx, client.ObjectKey{Namespace: w.namespace, Name: w.name}, hook); err != nil {
			return false, err
		}
		ready := meta.FindStatusCondition(hook.Status.Conditions, v1alpha1.ConditionReady)
		return ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == hook.Generation, nil
	})
	if err != nil {
		return fmt.Errorf("wait until the HeymarketWebhook is Ready: %w; %s", err, complaints(hook.Status.Conditions))
	}
	return nil
}

// complaints describes the conditions that prevent readiness, for a person.
func complaints(conditions []metav1.Condition) string {
	if len(conditions) == 0 {
		return "it has no conditions: is the operator running, and does it watch this namespace?"
	}
	var parts []string
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue && c.Type != v1alpha1.ConditionReady {
			parts = append(parts, fmt.Sprintf("%s is %s (%s): %s", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	if len(parts) == 0 {
		return "its conditions are for an earlier generation"
	}
	return strings.Join(parts, " ")
}

// url returns the receiver's URL inside the cluster: the path of Heymarket's URL, at the receiver's own Service.
func (w webhook) url(ctx context.Context) (*url.URL, error) {
	secret := &corev1.Secret{}
	if err := w.client.Get(ctx, client.ObjectKey{Namespace: w.namespace, Name: w.name + "-url"}, secret); err != nil {
		return nil, fmt.Errorf("read the Secret with the URL: %w", err)
	}
	u, err := url.Parse(string(secret.Data["url"]))
	if err != nil || u.Path == "" {
		return nil, errors.New("the Secret with the URL holds none") // the error would quote its content
	}
	return &url.URL{Scheme: "http", Host: w.name + "-receiver." + w.namespace + ".svc", Path: u.Path}, nil
}

// remove deletes both objects and waits until they are gone. It is not an error if they did not exist.
func (w webhook) remove(ctx context.Context) error {
	about := metav1.ObjectMeta{Namespace: w.namespace, Name: w.name}
	objects := []client.Object{&v1alpha1.HeymarketWebhook{ObjectMeta: about}, &corev1.Secret{ObjectMeta: about}}
	for _, object := range objects {
		if err := w.client.Delete(ctx, object); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return poll(ctx, func(ctx context.Context) (bool, error) {
		for _, object := range slices.Clone(objects) {
			if err := w.client.Get(ctx, client.ObjectKeyFromObject(object), object); !apierrors.IsNotFound(err) {
				return false, err
			}
		}
		return true, nil
	})
}

// poll calls ask until it returns true or the context ends. An error may be temporary; the last one is returned when the time is
// up.
func poll(ctx context.Context, ask func(context.Context) (bool, error)) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	var last error
	for {
		done, err := ask(ctx)
		if done && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("time is up"), last)
		case <-tick.C:
		}
	}
}
