package stream_test

import (
	"context"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// All data of a webhook is removed, and none of another.
func TestRemove(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := connect(t, redis, "a")
	q := s.Queue(target, delivery.General, ordered)
	for n := range 5 {
		say(t, s, "1", n)
	}
	take(t, q, 10, 0)
	if _, err := s.KeepTargets(t.Context(), []string{target}, 1, 1); err != nil {
		t.Fatal(err)
	}
	// Enough to need several steps, and neighbours whose names begin alike.
	redis.MustDo("EVAL", "for i = 1, 5000 do redis.call('SET', ARGV[1] .. i, 'x'); redis.call('SET', ARGV[2] .. i, 'x') end", "0",
		"hmw:{staging/support}:d:", "hmw:{staging/support-2}:d:")
	before := redis.MustDo("DBSIZE")
	n, err := s.RemoveKeys(t.Context())
	if err != nil || n <= 5000 {
		t.Errorf("%d removed of %s, %v", n, before, err)
	}
	if left := redis.MustDo("EVAL", "return #redis.call('KEYS', ARGV[1])", "0", "hmw:{staging/support}:*"); left != "0" {
		t.Errorf("%s keys are left", left)
	}
	if left := redis.MustDo("DBSIZE"); left != "5000" {
		t.Errorf("of the neighbour's 5000 keys %s are left", left)
	}
	if n, err := s.RemoveKeys(t.Context()); err != nil || n != 0 {
		t.Errorf("a second time: %d removed, %v", n, err)
	}
}

func TestRemoveFromACluster(t *testing.T) {
	t.Parallel()
	nodes, url := redistest.StartCluster(t)
	names := []string{"support", "sales", "alerts", "billing"}
	for _, name := range names {
		say(t, connectTo(t, url, name), "1", 0)
	}
	for _, name := range names {
		if n, err := connectTo(t, url, name).RemoveKeys(t.Context()); err != nil || n < 2 {
			t.Errorf("%s: %d removed, %v", name, n, err)
		}
	}
	for _, n := range nodes {
		if left := n.MustDo("DBSIZE"); left != "0" {
			t.Errorf("%s keys are left on %s", left, n.Addr())
		}
	}
}

func TestRemoveSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	redis.MustDo(append([]string{"ACL", "SETUSER", "tenant"}, tenantRules...)...)
	tenant := connectTo(t, "redis://tenant:secret@"+redis.Addr(), "support")
	_, err := tenant.RemoveKeys(t.Context())
	if stream.Problem(err) != contract.RedisNoRights || strings.Contains(err.Error(), "secret") {
		t.Errorf("a user who may not look for keys: %v", err)
	}
	redis.MustDo("ACL", "SETUSER", "tenant", "+scan")
	if _, err := tenant.RemoveKeys(t.Context()); err != nil {
		t.Errorf("a user who may: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := tenant.RemoveKeys(ended); err == nil {
		t.Error("no time, and no error")
	}
}

// connectTo returns a Store of the webhook staging/name that is connected to the Redis at url.
func connectTo(t *testing.T, url, name string) *stream.Store {
	t.Helper()
	s := stream.New("staging", name, "a")
	if err := s.Connect(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
