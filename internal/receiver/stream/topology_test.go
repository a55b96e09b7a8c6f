package stream_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// conform runs an event's whole life, and everything else that a Store does, against whatever it is connected to.
func conform(t *testing.T, s *stream.Store) {
	t.Helper()
	q := s.Queue(target, delivery.General, ordered)
	say(t, s, "1", 0)
	say(t, s, "1", 1)
	l := wantTaken(t, q, "1/0")[0]
	key, e := newEvent(1)
	for i, want := range []event.Judgement{event.New, event.Repeat} {
		if got, err := s.Append(t.Context(), key, e, []string{target, "audit"}, limits); err != nil || got.Judgement != want {
			t.Fatalf("Append, call %d = %v, %v; want %v", i, got, err, want)
		}
	}
	if ok, err := q.Extend(t.Context(), l); err != nil || !ok {
		t.Fatalf("Extend = %v, %v", ok, err)
	}
	if ok, err := q.Later(t.Context(), l, 2, 0); err != nil || !ok {
		t.Fatalf("Later = %v, %v", ok, err)
	}
	again := takeEventually(t, q, time.Minute)
	if ok, err := q.Dead(t.Context(), again, delivery.Outcome{Status: 400}, "no"); err != nil || !ok {
		t.Fatalf("Dead = %v, %v", ok, err)
	}
	all := delivery.DeadLetterFilter{}
	letters, err := s.ListDeadLetters(t.Context(), target, all, 10)
	if err != nil || len(letters) != 1 {
		t.Fatalf("ListDeadLetters = %v, %v", letters, err)
	}
	if n, err := s.ReplayDeadLetters(t.Context(), target, all, 0, nil); err != nil || n.Taken != 1 {
		t.Fatalf("ReplayDeadLetters = %v, %v", n, err)
	}
	if n, err := s.DiscardDeadLetters(t.Context(), target, all, 0, nil); err != nil || n.Taken != 0 {
		t.Fatalf("DiscardDeadLetters = %v, %v", n, err)
	}
	for settled := 0; settled < 3; { // 1/1, the one without a conversation, and the replayed 1/0
		for _, l := range take(t, q, 10, time.Minute) {
			done(t, q, l)
			settled++
		}
	}
	if err := q.Tidy(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.KeepTargets(t.Context(), []string{target, "audit"}, time.Hour, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.KeepTargets(t.Context(), []string{target}, -time.Hour, time.Hour); err != nil { // drops audit
		t.Fatal(err)
	}
	wantBacklog(t, s, backlog{})
}

func TestOneRedis(t *testing.T) {
	t.Parallel()
	conform(t, connect(t, redistest.Start(t), "a"))
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	nodes, url := redistest.StartCluster(t)
	holding := 0
	for _, name := range []string{"support", "sales", "alerts", "billing", "ops", "field"} {
		s := stream.New("staging", name, "a")
		if err := s.Connect(t.Context(), url, nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		conform(t, s)
	}
	for _, n := range nodes {
		if n.MustDo("DBSIZE") != "0" {
			holding++
		}
	}
	if holding < 2 {
		t.Errorf("the webhooks are on %d of three nodes: they should spread", holding)
	}
	// One address of the cluster is enough.
	s := stream.New("staging", "alone", "a")
	if err := s.Connect(t.Context(), nodes[0].URL(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conform(t, s)
}

func TestSentinelLeadsToThePrimaryAfterAFailover(t *testing.T) {
	t.Parallel()
	primary, replica, url := redistest.StartSentinel(t)
	s := stream.New("staging", "support", "a")
	if err := s.Connect(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conform(t, s)
	appendTo(t, s, 500, target)
	for deadline := time.Now().Add(10 * time.Second); replica.MustDo("XLEN", queueKey) != "1"; { // replication is asynchronous
		if time.Now().After(deadline) {
			t.Fatal("the replica does not get what the primary has")
		}
	}
	primary.Kill()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		key, e := newEvent(501)
		_, err := s.Append(t.Context(), key, e, []string{target}, limits)
		if err == nil {
			break
		}
		if !errors.Is(err, stream.ErrUnavailable) {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no way to the new primary after 30 seconds: %v; %s", err, replica.MustDo("INFO", "replication"))
		}
	}
	wantBacklog(t, s, backlog{Pending: 2})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	_, url, ca := redistest.StartTLS(t)
	s := stream.New("staging", "support", "a")
	if err := s.Connect(t.Context(), url, nil); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	if err := s.Connect(t.Context(), url, []byte("not PEM")); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("Connect = %v; want an error on PEM", err)
	}
	if err := s.Connect(t.Context(), "redis://127.0.0.1:1", ca); err == nil || !strings.Contains(err.Error(), "rediss://") {
		t.Errorf("Connect = %v; want an error on rediss://", err)
	}
	if err := s.Connect(t.Context(), url, ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conform(t, s)
}

// trusting returns a store of the webhook staging/name that trusts ca, and has not connected without it.
func trusting(t *testing.T, name, url string, ca []byte) *stream.Store {
	t.Helper()
	s := stream.New("staging", name, "a")
	if err := s.Connect(t.Context(), url, nil); err == nil {
		t.Error("a certificate that nobody vouches for was taken")
	}
	if err := s.Connect(t.Context(), url, ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The certificate is for the host of the URL, and the nodes announce each other by address.
func TestClusterByTLS(t *testing.T) {
	t.Parallel()
	_, url, ca := redistest.StartTLSCluster(t)
	for _, name := range []string{"support", "sales", "alerts", "billing"} {
		conform(t, trusting(t, name, url, ca))
	}
}

// Likewise, the Sentinel announces the primary by address.
func TestSentinelByTLS(t *testing.T) {
	t.Parallel()
	_, _, url, ca := redistest.StartTLSSentinel(t)
	conform(t, trusting(t, "support", url, ca))
}

func TestSentinelWithAPassword(t *testing.T) {
	t.Parallel()
	_, _, url := redistest.StartSentinel(t, "user default on nopass ~* &* +@all -sentinel", "user watcher on >w@rd ~* &* +@all")
	s := stream.New("staging", "support", "a")
	if err := s.Connect(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("Connect without a password = %v, want NOPERM", err)
	}
	if err := s.Connect(t.Context(), url+"&sentinel_username=watcher&sentinel_password=wrong", nil); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("Connect with a wrong password = %v, want an error that does not repeat it", err)
	}
	if err := s.Connect(t.Context(), url+"&sentinel_username=watcher&sentinel_password=w%40rd", nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	conform(t, s)
}

// tenantRules are the ACL rules in docs/redis.md for the user of one namespace.
var tenantRules = strings.Fields("on >secret ~hmw:{staging/* resetchannels -@all " +
	"+hello +auth +ping +info +client|setname +cluster|slots +cluster|shards +select " +
	"+eval +evalsha +time +exists +get +set +del +unlink +pexpire +hget +hset +hdel +hgetall +hvals +hmget +hincrby " +
	"+zadd +zrem +zrange +xadd +xlen +xrange +xdel +xtrim +xack +xclaim +xautoclaim +xpending +xreadgroup +xgroup +xinfo")

func TestAnACLFencesOneNamespaceFromAnother(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.MustDo(append([]string{"ACL", "SETUSER", "staging"}, tenantRules...)...)
	url := strings.Replace(r.URL(), "redis://", "redis://staging:secret@", 1)
	own := stream.New("staging", "support", "a")
	if err := own.Connect(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	conform(t, own)
	if problems := own.Check(t.Context()); len(problems) > 0 {
		t.Error(problems)
	}

	other := stream.New("production", "support", "a")
	if err := other.Connect(t.Context(), url, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	key, e := newEvent(1)
	if _, err := other.Append(t.Context(), key, e, []string{target}, limits); !errors.Is(err, stream.ErrUnavailable) || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("Append into another namespace = %v; want NOPERM", err)
	}
	if _, err := other.ListDeadLetters(t.Context(), target, delivery.DeadLetterFilter{}, 1); err == nil {
		t.Error("the dead letters of another namespace can be read")
	}
}
