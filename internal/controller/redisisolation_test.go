package controller

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"heymarket.dev/operator/api/v1alpha1"
	"heymarket.dev/operator/internal/apiservertest"
	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/controller/condition"
	"heymarket.dev/operator/internal/controller/desired"
	"heymarket.dev/operator/internal/controller/redisusers"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

const sharedURL = "redis://admin:root@redis.example.com:6379/0"

// keeper is a RedisUsers with a fixed answer.
type keeper struct {
	url         string
	err         error
	all, failed bool
	reported    int
}

func (k *keeper) Ready() bool                { return true }
func (k *keeper) URL(string) (string, error) { return k.url, k.err }
func (k *keeper) Reported(_, _, _ string, all, failed bool) {
	k.all, k.failed = all, failed
	k.reported++
}
func (k *keeper) RemoveKeys(context.Context, string, string) (int, error) { return 0, nil }

// The operator's credential is handed out only in the mode Shared.
func TestReceiversGetTheUserOfTheirNamespace(t *testing.T) {
	t.Parallel()
	const own = "redis://heymarket.o.staging:x@redis.example.com:6379/0"
	for name, tc := range map[string]struct {
		users   RedisUsers
		want    string
		missing bool
	}{
		"shared":  {nil, sharedURL, false},
		"managed": {&keeper{url: own}, own, false},
		"unavailable": {
			&keeper{err: fmt.Errorf("%w: dial: root", redisusers.ErrUnavailable)}, "redis://redis.example.com:6379/0", true,
		},
	} {
		r := &Reconciler{Users: tc.users}
		f := condition.Facts{Webhook: &v1alpha1.HeymarketWebhook{}, Input: desired.Input{SharedRedis: desired.SharedRedis{URL: sharedURL}}}
		if err := r.readRedisUser(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
		if got := f.Input.SharedRedis.URL; got != tc.want {
			t.Errorf("%s: the receiver is handed %s, want %s", name, got, tc.want)
		}
		if f.NoRedisUser != tc.missing || f.RedisRefusal != "" || f.OperatorRedisURL != sharedURL {
			t.Errorf("%s: the facts are %v, %q, %q", name, f.NoRedisUser, f.RedisRefusal, f.OperatorRedisURL)
		}
	}
	if waits := (&Reconciler{Users: &keeper{err: redisusers.ErrPending}}).awaitsRedisUser(&v1alpha1.HeymarketWebhook{}); !waits {
		t.Error("a user that is made within moments is worth a condition")
	}
	users := &keeper{err: errors.New("must not be asked")}
	f := condition.Facts{Webhook: &v1alpha1.HeymarketWebhook{Spec: v1alpha1.HeymarketWebhookSpec{Redis: &v1alpha1.Redis{}}}}
	if err := (&Reconciler{Users: users}).readRedisUser(t.Context(), &f); err != nil || f.NoRedisUser {
		t.Errorf("a webhook with a Redis of its own: %v, %v", f.NoRedisUser, err)
	}
}

func TestReportsOfReceiversOnTheirRedisUser(t *testing.T) {
	t.Parallel()
	handed := "redis://heymarket.o.staging:" + strings.Repeat("x", 40) + "@redis.example.com:6379/0"
	current := &contract.Status{Redis: "ok", RedisURLDigest: contract.RedisURLDigest(handed)}
	old := &contract.Status{Redis: "ok", RedisURLDigest: "sha256:0"}
	out := &contract.Status{Problems: []contract.Problem{contract.RedisBadLogin}}
	for name, tc := range map[string]struct {
		reports     []*contract.Status
		all, failed bool
	}{
		"all":       {[]*contract.Status{current, current}, true, false},
		"one not":   {[]*contract.Status{current, old}, false, false},
		"silent":    {[]*contract.Status{current, nil}, false, false},
		"refused":   {[]*contract.Status{current, out}, false, true},
		"no digest": {[]*contract.Status{{Redis: "ok"}}, false, false},
	} {
		k := &keeper{}
		noteRedisUser(k, &v1alpha1.HeymarketWebhook{}, handed, tc.reports)
		if k.all != tc.all || k.failed != tc.failed || k.reported != 1 {
			t.Errorf("%s: reported all %v, failed %v", name, k.all, k.failed)
		}
	}
	if contract.RedisURLDigest("redis://user:short@redis.example.com:6379/0") != "" {
		t.Error("a password that could be guessed is digested")
	}
}

// The whole manager with a real Redis: the receiver's Secret contains the credential of the namespace's user, which works, and
// no credential of the operator.
func TestManagedRedisOfANamespace(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.MustDo("ACL", "SETUSER", "admin", "on", ">root", "~*", "&*", "+@all")
	w := newWorld(t)
	w.redis = strings.Replace(r.URL(), "redis://", "redis://admin:root@", 1)
	w.r.Settings.RedisIsolation, w.r.Settings.OperatorNamespace = RedisManaged, "heymarket-system"
	w.manage(apiservertest.Config(t), w.namespace)
	w.secret("heymarket", map[string]string{"token": canary})
	w.webhook(smallest)
	handed := ""
	w.eventually("the Secret of the receiver", func() bool {
		s := &corev1.Secret{}
		err := w.person.Get(t.Context(), w.key("support-receiver"), s)
		handed = string(s.Data[desired.KeyRedisURL])
		return err == nil
	})
	if strings.Contains(handed, "root") || !strings.HasPrefix(handed, "redis://heymarket.heymarket-system."+w.namespace+":") {
		t.Error("the receiver is handed another user than that of its namespace")
	}
	own, other := stream.New(w.namespace, "support", "a"), stream.New("other", "support", "a")
	for _, s := range []*stream.Store{own, other} {
		w.do(s.Connect(t.Context(), handed, nil))
		t.Cleanup(s.Close)
	}
	if _, err := own.KeepTargets(t.Context(), []string{"crm"}, time.Hour, time.Hour); err != nil {
		t.Errorf("in the own namespace: %v", err)
	}
	if _, err := other.KeepTargets(t.Context(), []string{"crm"}, time.Hour, time.Hour); err == nil {
		t.Error("the keys of another namespace can be written")
	}
	// A user who may write Secrets in the namespace removes it, or writes another credential there: it is restored, and Redis
	// learns of no other.
	forged := strings.Replace(handed, ":"+password(t, handed)+"@", ":aaaaaa-ABCDEFGHIJKLMNOPQRSTUVWXYZ@", 1)
	for name, attack := range map[string]func(*corev1.Secret) error{
		"removed": func(s *corev1.Secret) error { return w.person.Delete(t.Context(), s) },
		"changed": func(s *corev1.Secret) error {
			s.Data[desired.KeyRedisURL] = []byte(forged)
			return w.person.Update(t.Context(), s)
		},
	} {
		w.do(attack(get(w, "support-receiver", &corev1.Secret{})))
		w.eventually("the Secret that was "+name, func() bool {
			s := &corev1.Secret{}
			err := w.person.Get(t.Context(), w.key("support-receiver"), s)
			return err == nil && string(s.Data[desired.KeyRedisURL]) == handed
		})
		s := stream.New(w.namespace, "support", "b")
		t.Cleanup(s.Close)
		if s.Connect(t.Context(), forged, nil) == nil {
			t.Errorf("%s: Redis accepts a password that a tenant wrote", name)
		}
	}
}

// If receivers have their own user, neither the operator's credential nor its Redis may be sent to or used as a target.
func TestTheOperatorsRedisIsNoTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.redis = "redis://admin:a-long-root-password@redis.heymarket-system.svc:6379/0?addr=redis-1.heymarket-system.svc:6380"
	w.r.Users = &keeper{url: "redis://heymarket.o.x:a-password-of-its-own@redis.heymarket-system.svc:6379/0"}
	w.secret("heymarket", map[string]string{"token": canary, "url": w.redis, "password": "a-long-root-password", "within": "x a-long-root-password x", "own": "a-password-of-its-own", "fine": "a-value"})
	w.webhook(smallest)
	refused := func(what, reason string) {
		t.Helper()
		w.reconcile()
		if got := w.reason(v1alpha1.ConditionAccepted); got != reason {
			t.Errorf("%s: Accepted is %s, want %s", what, got, reason)
		}
		if stored := string(w.configSecret().Data[desired.KeyConfig]); reason != v1alpha1.ReasonAccepted && strings.Contains(stored, "redis.heymarket-system") {
			t.Errorf("%s: receivers are given it as a target", what)
		}
	}
	refused("the smallest", v1alpha1.ReasonAccepted)
	for _, key := range []string{"url", "password", "within", "own"} {
		w.sendTo(header("heymarket", key))
		refused("a header with "+key, v1alpha1.ReasonSecretNotAllowed)
	}
	for _, url := range []string{
		"http://redis.heymarket-system.svc:6379", "http://redis.heymarket-system:6379/x", "https://REDIS.heymarket-system.svc.cluster.local.:6379/",
		"http://redis-1.heymarket-system.svc:6380/",
	} {
		w.sendTo("url: " + url)
		refused(url, v1alpha1.ReasonInvalidConfiguration)
	}
	w.sendTo("url: http://redis.heymarket-system.svc:8080\n" + header("heymarket", "fine"))
	w.reconcile()
	w.condition(v1alpha1.ConditionAccepted, true, v1alpha1.ReasonAccepted)
}

// A starting manager reads passwords only from a Secret that belongs to a webhook, and from no other of that name.
func TestURLsThatWereHandedOutAreReadFromOwnSecrets(t *testing.T) {
	t.Parallel()
	w := settled(t)
	urls := func() int {
		return len(handedOutURLs(t.Context(), w.person, w.namespace, []string{"support", "missing"}))
	}
	if n := urls(); n != 1 {
		t.Fatalf("%d URLs are read, want that of the webhook", n)
	}
	for name, owner := range map[string][]metav1.OwnerReference{"nobody": nil, "a webhook that was": {ownedBy("support")}} {
		change(w, get(w, "support-receiver", &corev1.Secret{}), func(s *corev1.Secret) { s.OwnerReferences = owner })
		if n := urls(); n != 0 {
			t.Errorf("%d URLs are read from a Secret of %s", n, name)
		}
	}
}

func password(t *testing.T, redisURL string) string {
	t.Helper()
	u, err := url.Parse(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := u.User.Password()
	return p
}
