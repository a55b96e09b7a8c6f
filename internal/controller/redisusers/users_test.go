package redisusers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// fleet is the manager's view of the cluster: its webhooks, and what it has handed out to their receivers.
type fleet struct {
	t *testing.T

	mu       sync.Mutex
	server   Server
	webhooks map[string][]string
	handed   map[string]string
}

func newFleet(t *testing.T, url string, ca []byte, namespaces ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, server: Server{URL: url, CA: ca}, webhooks: map[string][]string{}, handed: map[string]string{}}
	for _, ns := range namespaces {
		f.webhooks[ns] = []string{"support"}
	}
	return f
}

// run runs a manager until the returned function is called, or the test ends.
func (f *fleet) run(set func(*Options)) (users *Users, stop func()) {
	f.t.Helper()
	users = New(f.options(set))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = users.Start(ctx) }()
	stop = func() { cancel(); <-ended }
	f.t.Cleanup(stop)
	return users, stop
}

func (f *fleet) options(set func(*Options)) Options {
	o := Options{
		Server: func() Server { f.mu.Lock(); defer f.mu.Unlock(); return f.server },
		Owner:  "heymarket-system",
		Webhooks: func(context.Context) (map[string][]string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return maps.Clone(f.webhooks), nil
		},
		HandedOut: func(_ context.Context, namespace string, _ []string) []string {
			f.mu.Lock()
			defer f.mu.Unlock()
			return []string{f.handed[namespace]}
		},
		Log:    logr.Discard(),
		Period: 20 * time.Millisecond, Grace: time.Hour, Linger: time.Hour,
	}
	if set != nil {
		set(&o)
	}
	return o
}

// url waits until the namespace has a URL, and notes that its receivers were given it.
func (f *fleet) url(users *Users, namespace string) string {
	f.t.Helper()
	var got string
	eventually(f.t, "a URL for "+namespace, func() error {
		var err error
		got, err = users.URL(namespace)
		return err
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handed[namespace] = got
	return got
}

// eventually polls until there is no error: another process gives no other signal.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

func connect(t *testing.T, url string, ca []byte, namespace string) (*stream.Store, error) {
	t.Helper()
	s := stream.New(namespace, "support", "a")
	err := s.Connect(t.Context(), url, ca)
	t.Cleanup(s.Close)
	return s, err
}

var limits = stream.Limits{Window: time.Hour, Backlog: 1000, Bytes: 1 << 20}

func newEvent(n byte) (event.Identity, event.Event) {
	key := event.Key{n}
	_, _ = rand.Read(key[1:]) // each is new
	return event.Identity{Key: key, Rule: event.Any}, event.Event{ID: key.ID(), Type: event.MessageReceived, AcceptedAt: time.Now(), Conversation: "7", Body: []byte(`{"n":1}`)}
}

// live does everything that a receiver does with Redis.
func live(ctx context.Context, s *stream.Store) error {
	q := s.Queue("crm", delivery.General, stream.QueueOptions{Ordered: true, DeadLetterLimit: 1000})
	takeOne := func(lease time.Duration) (delivery.Lease, error) {
		for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) { // what is due depends on the clock of Redis
			leases, _, err := q.Take(ctx, 1, 1<<20, lease)
			if err != nil {
				return delivery.Lease{}, err
			}
			if len(leases) == 1 {
				return leases[0], nil
			}
		}
		return delivery.Lease{}, ctx.Err()
	}
	for n := range byte(3) {
		key, e := newEvent(n)
		if _, err := s.Append(ctx, key, e, []string{"crm", "audit"}, limits); err != nil {
			return err
		}
	}
	lease, err := takeOne(time.Minute)
	if err != nil {
		return err
	}
	if _, _, err := q.Take(ctx, 10, 1<<20, time.Minute); err != nil { // parks the others
		return err
	}
	if _, err := q.Extend(ctx, lease); err != nil {
		return err
	}
	if _, err := q.Later(ctx, lease, 2, 0); err != nil {
		return err
	}
	if lease, err = takeOne(time.Minute); err != nil {
		return err
	}
	if _, err := q.Dead(ctx, lease, delivery.Outcome{Status: 400}, "no"); err != nil {
		return err
	}
	all := delivery.DeadLetterFilter{}
	letters, err := s.ListDeadLetters(ctx, "crm", all, 10)
	if err != nil {
		return err
	}
	if len(letters) != 1 {
		return fmt.Errorf("%d dead letters, want 1", len(letters))
	}
	if _, _, err := s.DeadLetter(ctx, "crm", letters[0].Entry); err != nil {
		return err
	}
	if _, err := s.CountDeadLetters(ctx, "crm", all); err != nil {
		return err
	}
	if _, err := s.ReplayDeadLetters(ctx, "crm", all, 0, nil); err != nil {
		return err
	}
	if _, err := s.DiscardDeadLetters(ctx, "crm", all, 0, nil); err != nil {
		return err
	}
	if lease, err = takeOne(time.Minute); err != nil {
		return err
	}
	if _, err := q.Dead(ctx, lease, delivery.Outcome{Status: 400}, "no"); err != nil {
		return err
	}
	if _, err := s.KeepTargets(ctx, []string{"crm"}, time.Hour, -time.Hour); err != nil { // trims the dead letter
		return err
	}
	for range 2 {
		if lease, err = takeOne(time.Millisecond); err != nil { // takes over what is leased as well
			return err
		}
		if _, err := q.Done(ctx, lease); err != nil {
			return err
		}
	}
	if err := q.Tidy(ctx, -time.Hour); err != nil {
		return err
	}
	if _, err := s.KeepTargets(ctx, []string{"crm", "audit"}, time.Hour, time.Hour); err != nil {
		return err
	}
	if _, err := s.KeepTargets(ctx, []string{"crm"}, -time.Hour, time.Hour); err != nil { // drops audit
		return err
	}
	if _, err := s.Accounts(ctx, []string{"crm"}); err != nil {
		return err
	}
	if _, err := s.ClockSkew(ctx); err != nil {
		return err
	}
	if slices.Contains(s.Check(ctx), contract.RedisNoRights) {
		return errCheckRefused
	}
	return nil
}

// errCheckRefused is live's error if Check finds missing rights.
var errCheckRefused = errors.New("the check finds that rights are missing")

func mustLive(t *testing.T, url string, ca []byte, namespace string) {
	t.Helper()
	s, err := connect(t, url, ca, namespace)
	if err == nil {
		err = live(t.Context(), s)
	}
	if err != nil {
		t.Fatalf("%s: %v", namespace, err)
	}
}

// administered starts a Redis with a password, as the operator's own has one.
func administered(t *testing.T, args ...string) (*redistest.Server, string) {
	t.Helper()
	r := redistest.Start(t, args...)
	r.MustDo("ACL", "SETUSER", "admin", "on", ">root", "~*", "&*", "+@all")
	return r, strings.Replace(r.URL(), "redis://", "redis://admin:root@", 1)
}

func TestOneRedis(t *testing.T) {
	t.Parallel()
	r, admin := administered(t)
	f := newFleet(t, admin, nil, "staging", "production")
	users, _ := f.run(nil)
	for _, ns := range []string{"staging", "production"} {
		got := f.url(users, ns)
		if strings.Contains(got, "root") || strings.Contains(got, "admin") {
			t.Errorf("%s is handed the administrator's credential", ns)
		}
		mustLive(t, got, nil, ns)
		u, _ := url.Parse(got)
		password, _ := u.User.Password()
		if acl := r.MustDo("ACL", "LIST"); strings.Contains(acl, password) || !strings.Contains(acl, "user heymarket.heymarket-system."+ns+" on ") {
			t.Errorf("ACL LIST holds a password in plain text, or no user of %s: %s", ns, acl)
		}
	}
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	nodes, all := redistest.StartCluster(t)
	f := newFleet(t, all, nil, "a", "b", "c", "d")
	users, _ := f.run(nil)
	for _, ns := range []string{"a", "b", "c", "d"} {
		mustLive(t, f.url(users, ns), nil, ns)
	}
	for _, n := range nodes {
		eventually(t, "users on each node", func() error {
			if got := n.MustDo("ACL", "USERS"); strings.Count(got, "heymarket.") != 4 {
				return fmt.Errorf("it has %q", got)
			}
			return nil
		})
	}
	// A node that comes back has forgotten them.
	nodes[1].Kill()
	nodes[1].Run()
	eventually(t, "users on the node that came back", func() error {
		if got := nodes[1].MustDo("ACL", "USERS"); strings.Count(got, "heymarket.") != 4 {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
}

func TestClusterByTLS(t *testing.T) {
	t.Parallel()
	_, all, ca := redistest.StartTLSCluster(t)
	f := newFleet(t, all, ca, "a", "b")
	users, _ := f.run(nil)
	for _, ns := range []string{"a", "b"} {
		mustLive(t, f.url(users, ns), ca, ns)
	}
}

// The replica has the users before it becomes the primary, so receivers recover without help.
func TestSentinel(t *testing.T) {
	t.Parallel()
	primary, replica, sentinel := redistest.StartSentinel(t, "user default on nopass ~* &* +@all -sentinel", "user watcher on >w@rd ~* &* +@all")
	f := newFleet(t, sentinel+"&sentinel_username=watcher&sentinel_password=w%40rd", nil, "staging")
	users, stop := f.run(nil)
	got := f.url(users, "staging")
	if strings.Contains(got, "watcher") {
		t.Error("receivers are handed the Sentinels' administrator")
	}
	mustLive(t, got, nil, "staging")
	// What a node that does not answer lacks is brought to it at the next look, and receivers are not kept waiting for it.
	eventually(t, "users on the replica", func() error {
		if have := replica.MustDo("ACL", "USERS"); !strings.Contains(have, "heymarket.heymarket-system.staging") {
			return fmt.Errorf("it has %q", have)
		}
		return nil
	})
	stop()
	primary.Kill()
	eventually(t, "live at the new primary", func() error {
		s, err := connect(t, got, nil, "staging")
		if err != nil {
			return err
		}
		key, e := newEvent(9)
		_, err = s.Append(t.Context(), key, e, []string{"crm"}, limits)
		return err
	})
}

// A Redis that restarted without its users gets them again with the receivers' passwords, so receivers need no change.
func TestARedisThatForgot(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	f := newFleet(t, r.URL(), nil, "staging")
	users, _ := f.run(nil)
	before := f.url(users, "staging")
	mustLive(t, before, nil, "staging")
	for _, forget := range map[string]func(){
		"restart": func() { r.Kill(); r.Run() },
		"by hand": func() { r.MustDo("ACL", "DELUSER", "heymarket.heymarket-system.staging"); r.MustDo("SCRIPT", "FLUSH") },
	} {
		forget()
		eventually(t, "live again", func() error {
			s, err := connect(t, before, nil, "staging")
			if err == nil {
				err = live(t.Context(), s)
			}
			return err
		})
	}
	// Rights that someone has changed are restored after a receiver's report.
	r.MustDo("ACL", "SETUSER", "heymarket.heymarket-system.staging", "resetpass")
	users.Reported("staging", "support", before, true, true)
	eventually(t, "live after a report", func() error {
		_, err := connect(t, before, nil, "staging")
		return err
	})
	if after := f.url(users, "staging"); after != before {
		t.Error("receivers are given another password, which takes the kubelet a minute to bring")
	}
}

func TestAManagerThatStartsAgainKeepsThePasswords(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	f := newFleet(t, r.URL(), nil, "staging")
	users, stop := f.run(nil)
	before := f.url(users, "staging")
	stop()
	again, _ := f.run(nil)
	eventually(t, "the first look", func() error {
		if !again.Ready() {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if after := f.url(again, "staging"); after != before {
		t.Error("a new manager replaced the password")
	}
	mustLive(t, before, nil, "staging")
}

// Old and new password are valid together until all receivers have reported the new one.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	f := newFleet(t, r.URL(), nil, "staging")
	f.webhooks["staging"] = []string{"sales", "support"}
	users, stop := f.run(nil)
	before := f.url(users, "staging")
	stop()
	users, _ = f.run(func(o *Options) { o.RotateAfter = time.Nanosecond })
	var after string
	eventually(t, "a new password", func() error {
		if after = f.url(users, "staging"); after == before {
			return fmt.Errorf("still the old one")
		}
		return nil
	})
	both := func() error {
		for _, u := range []string{before, after} {
			if _, err := connect(t, u, nil, "staging"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := both(); err != nil {
		t.Fatalf("during a rotation: %v", err)
	}
	users.Reported("staging", "sales", after, true, false)
	users.Reported("staging", "support", before, true, false) // too late: that is the old one
	r.MustDo("ACL", "SETUSER", "heymarket.heymarket-system.staging", "off")
	users.Reported("staging", "support", after, false, true)
	eventually(t, "both while one webhook has not reported", both)
	users.Reported("staging", "support", after, true, false)
	eventually(t, "the old one withdrawn", func() error {
		if _, err := connect(t, before, nil, "staging"); err == nil {
			return fmt.Errorf("the old password is still valid")
		}
		return nil
	})
}

func TestTheLastWebhookTakesTheUserAlong(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.MustDo("ACL", "SETUSER", "heymarket.other-operator.staging", "on", ">x")
	f := newFleet(t, r.URL(), nil, "staging", "production")
	users, _ := f.run(func(o *Options) { o.Linger = time.Nanosecond })
	f.url(users, "staging")
	f.url(users, "production")
	f.mu.Lock()
	delete(f.webhooks, "staging")
	f.mu.Unlock()
	want := []string{"default", "heymarket.heymarket-system.production", "heymarket.other-operator.staging"}
	eventually(t, "users", func() error {
		if got := strings.Fields(r.MustDo("ACL", "USERS")); !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

func TestAServerWithoutACLSetuser(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.MustDo("ACL", "SETUSER", "limited", "on", ">x", "~*", "+@all", "-acl|setuser")
	f := newFleet(t, strings.Replace(r.URL(), "redis://", "redis://limited:x@", 1), nil, "staging")
	users, _ := f.run(nil)
	eventually(t, "a refusal", func() error {
		_, err := users.URL("staging")
		if answer, refused := Refused(err); !refused || !strings.Contains(answer, "acl|setuser") {
			return fmt.Errorf("URL: %w", err)
		}
		return nil
	})
	r.MustDo("ACL", "SETUSER", "limited", "+acl|setuser")
	f.url(users, "staging")
}

func TestRemoveKeys(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func() (string, []*redistest.Server){
		"one":     func() (string, []*redistest.Server) { r := redistest.Start(t); return r.URL(), []*redistest.Server{r} },
		"cluster": func() (string, []*redistest.Server) { nodes, all := redistest.StartCluster(t); return all, nodes },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, nodes := start()
			f := newFleet(t, all, nil, "a", "a-b")
			users, _ := f.run(nil)
			for _, ns := range []string{"a", "a-b"} {
				mustLive(t, f.url(users, ns), nil, ns)
			}
			if n, err := users.RemoveKeys(t.Context(), "a", "support"); err != nil || n == 0 {
				t.Fatalf("RemoveKeys = %d, %v", n, err)
			}
			left := ""
			for _, n := range nodes {
				left += n.MustDo("KEYS", "*") + "\n"
			}
			if strings.Contains(left, "{a/") || !strings.Contains(left, "{a-b/") {
				t.Errorf("left are %q", left)
			}
		})
	}
}
