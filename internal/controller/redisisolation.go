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

// RedisIsolation selects the credential with which receivers log in at the shared Redis.
type RedisIsolation string

const (
	// RedisShared hands the operator's own credential to every namespace.
	RedisShared RedisIsolation = "Shared"
	// RedisManaged hands each namespace the credential of a Redis user that may access only the keys of that namespace.
	RedisManaged RedisIsolation = "Managed"
)

// RedisUsers creates a user for each namespace in the shared Redis, see package redisusers.
type RedisUsers interface {
	// Ready reports whether the result of URL is meaningful yet.
	Ready() bool
	// URL returns the Redis URL for the receivers of a namespace, or an error of package redisusers. It never blocks.
	URL(namespace string) (string, error)
	// Reported records whether all receivers of a webhook use this URL, and whether Redis refuses their user.
	Reported(namespace, webhook, url string, all, failed bool)
	// RemoveKeys removes all keys of a webhook and returns how many there were.
	RemoveKeys(ctx context.Context, namespace, name string) (int, error)
}

// readRedisUser adds the URL of the namespace's own Redis user to the input. If there is none yet no URL is handed out:
// receivers must not get the operator's credential.
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

// awaitsRedisUser reports whether the namespace's Redis user is being created, which takes moments and is not worth a
// condition.
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

// noteRedisUser forwards the receivers' reports about their Redis user. A nil report is that of a Pod that did not answer.
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

// sharingWebhooks returns the names of all webhooks that use the shared Redis, by namespace.
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

// redisUserAgain is how soon to check again whether the Redis user of a namespace exists.
const redisUserAgain = 100 * time.Millisecond

// removalTimeout bounds one attempt to remove the keys of a webhook from the shared Redis. It is below roundTimeout.
const removalTimeout = 45 * time.Second

// operatorRemovesKeys reports whether the operator, and not a Pod, removes the keys of a deleted webhook.
func (r *Reconciler) operatorRemovesKeys(hook *v1alpha1.HeymarketWebhook) bool {
	return r.Users != nil && hook.Spec.Redis == nil
}

// removeSharedKeys removes the keys of a webhook from the shared Redis, because its own user could not find them.
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
	return nil, nil //nolint:nilnil // nothing left to wait for
}
