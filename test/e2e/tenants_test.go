//go:build e2e

package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/test/support/quickstart"
)

// A namespace's user has the credential that the operator gave to its receivers. It gives no access to another namespace's data.
func TestATenantReachesNothingOfAnother(t *testing.T) {
	t.Parallel()
	victim, attacker := newScene(t), newScene(t)
	if answer := victim.send(t, quickstart.Message(ids.Add(1), "before")); answer.Status != http.StatusOK {
		t.Fatalf("before: answered %d", answer.Status)
	}
	mine, theirs := attacker.redisURL(t), victim.redisURL(t)
	if mine == theirs {
		t.Fatal("two namespaces have one credential")
	}
	prefix, own := contract.RedisPrefix(victim.namespace, quickstart.WebhookName), contract.RedisPrefix(attacker.namespace, quickstart.WebhookName)
	queue := "q:" + quickstart.TargetName + ":general"
	for _, try := range []struct{ command, answer string }{
		{"PING", "PONG"},
		{"XLEN " + own + queue, "0"},
		{"XRANGE " + prefix + queue + " - +", "NOPERM"},
		{"HGETALL " + prefix + "account:" + quickstart.TargetName, "NOPERM"},
		{"XADD " + prefix + queue + " * id evt_forged", "NOPERM"},
		{"DEL " + prefix + queue, "NOPERM"},
		{"SCAN 0", "NOPERM"},
		{"KEYS *", "NOPERM"},
		{"EVAL return(1) 0", "NOPERM"},
		{"SCRIPT FLUSH", "NOPERM"},
		{"CONFIG GET requirepass", "NOPERM"},
		{"ACL LIST", "NOPERM"},
		{"CLIENT LIST", "NOPERM"},
		{"FLUSHALL", "NOPERM"},
		{"SHUTDOWN NOSAVE", "NOPERM"},
		{"AUTH default demo", "WRONGPASS"},
	} {
		args := []string{"exec", "--namespace=redis", "redis-0", "--", "redis-cli", "--no-auth-warning", "-u", mine}
		answer, err := cluster.RunKubectl(t.Context(), "", append(args, strings.Fields(try.command)...)...)
		if err != nil {
			t.Fatalf("%s: %v", try.command, err)
		}
		t.Logf("%s: %s", try.command, strings.TrimSpace(answer))
		if !strings.HasPrefix(answer, try.answer) {
			t.Errorf("%s is answered %q, want %s", try.command, answer, try.answer)
		}
	}
	if answer := victim.send(t, quickstart.Message(ids.Add(1), "after")); answer.Status != http.StatusOK {
		t.Errorf("after: answered %d", answer.Status)
	}
	if diff := cmp.Diff([]string{"after", "before"}, victim.texts(t, 2)); diff != "" {
		t.Errorf("the victim's target received (- want, + got):\n%s", diff)
	}
	if texts := attacker.texts(t, 0); len(texts) != 0 {
		t.Errorf("the attacker's target received %q", texts)
	}
}

// redisURL is the one that the operator hands to the receivers of a namespace.
func (s scene) redisURL(t *testing.T) string {
	t.Helper()
	var url string
	if err := quickstart.Poll(t.Context(), 30*time.Second, func(ctx context.Context) (bool, error) {
		var secret corev1.Secret
		err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: contract.ReceiverName(quickstart.WebhookName)}, &secret)
		url = string(secret.Data["redis-url"])
		return url != "", err
	}); err != nil {
		t.Fatal(err)
	}
	return url
}
