package controller

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/redisusers"
	"heymarket.dev/operator/internal/controller/source"
)

// RedisIsolation says by which credential receivers log in at the shared Redis.
type RedisIsolation string

const (
	// RedisShared hands the operator's own credential to every namespace.
	RedisShared RedisIsolation = "Shared"
	// RedisManaged hands each namespace the credential of a Redis user that may touch the keys of that namespace only.
	RedisManaged RedisIsolation = "Managed"
)

// RedisUsers creates a user for each namespace in the shared Redis, see package redisusers.
type RedisUsers interface {
	// Ready says whether URL knows what there is to know.
	Ready() bool
	// URL returns how the receivers of a namespace reach Redis, or an error of package redisusers. It never waits.
	URL(namespace string) (string, error)
	// Reported notes whether all receivers of a webhook use this URL, and whether Redis refuses their user.
	Reported(namespace, webhook, url string, all, failed bool)
	// RemoveKeys removes all keys of a webhook and returns how many there were.
	RemoveKeys(ctx context.Context, namespace, name string) (int, error)
}

// readRedisUser puts the URL of the namespace's own Redis user into the input. Where there is none yet nothing is handed out:
// the credential of the operator is not for receivers.
func (r *Reconciler) readRedisUser(_ context.Context, f *condition.Facts) error {
	f.OperatorRedisURL = f.Input.SharedRedis.URL
	if r.Users == nil || f.Webhook.Spec.Redis != nil {
		return nil
	}
	own, err := r.Users.URL(f.Webhook.Namespace)
	f.Input.SharedRedis.URL = own
	if err == nil {
		return nil
	}
	f.Input.SharedRedis.URL = withoutUser(f.OperatorRedisURL)
	f.NoRedisUser = true
	f.RedisRefusal, _ = redisusers.Refused(err)
	return nil
}

// awaitsRedisUser says that the namespace's Redis user is known or made within moments, which is not worth a condition.
func (r *Reconciler) awaitsRedisUser(hook *v1alpha1.HeymarketWebhook) bool {
	if r.Users == nil || hook.Spec.Redis != nil {
		return false
	}
	if !r.Users.Ready() {
		return true
	}
	_, err := r.Users.URL(hook.Namespace)
	return errors.Is(err, redisusers.ErrPending)
}

func withoutUser(redisURL string) string {
	u, err := url.Parse(redisURL)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

// noteRedisUser passes on what receivers report of their Redis user. A nil report is of a Pod that did not answer.
func noteRedisUser(users RedisUsers, hook *v1alpha1.HeymarketWebhook, handedOut string, reports []*contract.Status) {
	if users == nil || hook.Spec.Redis != nil || len(reports) == 0 {
		return
	}
	want := contract.RedisURLDigest(handedOut)
	all, failed := true, false
	for _, p := range reports {
		all = all && p != nil && p.RedisURLDigest == want
		failed = failed || p != nil && (slices.Contains(p.Problems, contract.RedisBadLogin) || slices.Contains(p.Problems, contract.RedisNoRights))
	}
	users.Reported(hook.Namespace, hook.Name, handedOut, all, failed)
}

// newRedisUsers returns the Users of the shared Redis.
func newRedisUsers(settings Settings, redis *source.RedisFiles, webhooks client.Reader) *redisusers.Users {
	return redisusers.New(redisusers.Options{
		Server: func() redisusers.Server {
			shared := redis.Redis()
			return redisusers.Server{URL: shared.URL, CA: shared.CA, Dialer: settings.redisDialer}
		},
		Owner:    settings.OperatorNamespace,
		Webhooks: func(ctx context.Context) (map[string][]string, error) { return sharingWebhooks(ctx, webhooks) },
		HandedOut: func(ctx context.Context, ns string, names []string) []string {
			return handedOutURLs(ctx, webhooks, ns, names)
		},
		RotateAfter: settings.RedisRotation,
		Log:         log.Log.WithName("redis-users"),
	})
}

// sharingWebhooks returns the names of all webhooks at the shared Redis, by namespace.
func sharingWebhooks(ctx context.Context, webhooks client.Reader) (map[string][]string, error) {
	var hooks v1alpha1.HeymarketWebhookList
	if err := webhooks.List(ctx, &hooks, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list HeymarketWebhooks: %w", err)
	}
	out := map[string][]string{}
	for i := range hooks.Items {
		if h := &hooks.Items[i]; h.Spec.Redis == nil {
			out[h.Namespace] = append(out[h.Namespace], h.Name)
		}
	}
	return out, nil
}

// handedOutURLs returns the Redis URLs in the configuration Secrets of webhooks.
func handedOutURLs(ctx context.Context, objects client.Reader, namespace string, webhooks []string) []string {
	var out []string
	for _, name := range webhooks {
		hook, s := &v1alpha1.HeymarketWebhook{}, &corev1.Secret{}
		if objects.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, hook) == nil &&
			objects.Get(ctx, client.ObjectKey{Namespace: namespace, Name: contract.ReceiverName(name)}, s) == nil &&
			metav1.IsControlledBy(s, hook) {
			out = append(out, string(s.Data[desired.KeyRedisURL]))
		}
	}
	return out
}

// redisUserAgain is how soon to look again whether the Redis user of a namespace is known.
const redisUserAgain = 100 * time.Millisecond

// removalTimeout bounds one try to remove the keys of a webhook from the shared Redis. It is below roundTimeout.
const removalTimeout = 45 * time.Second

// operatorRemovesKeys says that the operator removes the keys of a deleted webhook itself, and no Pod does.
func (r *Reconciler) operatorRemovesKeys(hook *v1alpha1.HeymarketWebhook) bool {
	return r.Users != nil && hook.Spec.Redis == nil
}

// removeSharedKeys removes the keys of a webhook from the shared Redis where its own user could not find them.
func (r *Reconciler) removeSharedKeys(ctx context.Context, hook *v1alpha1.HeymarketWebhook) (*condition.Condition, error) {
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	removed, err := r.Users.RemoveKeys(ctx, hook.Namespace, hook.Name)
	if err != nil {
		log.FromContext(ctx).Error(err, "Cannot remove the keys of a deleted HeymarketWebhook from the shared Redis")
		return &condition.Condition{
			Reason: v1alpha1.ReasonRedisKeysLeft,
			Message: "The operator cannot remove the keys from the shared Redis: check that Redis runs and that the operator's Redis user has the commands in docs/redis.md; " +
				"the operator's log has the error. " + keysStay,
		}, nil
	}
	log.FromContext(ctx).Info("Removed the keys of a deleted HeymarketWebhook from Redis", "keys", removed)
	return nil, nil //nolint:nilnil // nothing is waited for any more
}
