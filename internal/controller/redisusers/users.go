// Package redisusers is the only package of the manager that accesses Redis, and only the operator's own. It gives each namespace
// a user there that may access only the keys of that namespace, maintains these users on every node, and hands out their
// credentials. The administrator's credential stays with the manager.
//
// Redis does not replicate users. So every node is checked every few seconds: one that is new, has restarted, or has otherwise
// lost them gets them again, with the passwords that receivers have.
package redisusers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// Options configure Users.
type Options struct {
	// Server returns the connection settings of the operator's own Redis; they may change.
	Server func() Server
	// Owner is the operator's namespace. It is part of the users' names, so that two operators sharing a Redis do not touch each
	// other's users.
	Owner string
	// Webhooks returns the names of the webhooks served by that Redis, by namespace.
	Webhooks func(context.Context) (map[string][]string, error)
	// HandedOut returns the Redis URLs that the receivers of these webhooks appear to have been given. A tenant may have written
	// them.
	HandedOut func(ctx context.Context, namespace string, webhooks []string) []string
	// RotateAfter is the age at which a password is replaced; 0 means never.
	RotateAfter time.Duration
	Log         logr.Logger

	// Overrides of the constants period, grace and linger, in tests.
	Period, Grace, Linger time.Duration
}

const (
	// period is how often every node is checked.
	period = 2 * time.Second
	// grace is how long a replaced password stays valid for receivers that have not reported the new one. The kubelet takes up to
	// two minutes to deliver it.
	grace = 10 * time.Minute
	// linger is how long a user outlives the last webhook of its namespace: receivers take up to a minute to shut down.
	linger = 5 * time.Minute
	// roundTimeout bounds one check of all nodes.
	roundTimeout = 20 * time.Second
	// maxRemovals is for how many webhooks keys are removed concurrently.
	maxRemovals = 4
	// batch is how many commands are sent to a node at once.
	batch = 100
)

// ErrPending is returned until the server has accepted the namespace's user for the first time.
var ErrPending = errors.New("the Redis user of the namespace has not been created yet")

// ErrUnavailable is returned instead while the operator cannot create it. See Refused.
var ErrUnavailable = errors.New("the Redis user of the namespace cannot be created")

// errBusy is returned while RemoveKeys works for maxRemovals webhooks.
var errBusy = errors.New("keys of other webhooks are being removed; try again later")

// Users maintains one Redis user for each namespace.
type Users struct {
	Options
	first chan struct{} // closed after the first check
	again chan struct{}
	// removals are the slots of RemoveKeys.
	removals chan struct{}

	mu       sync.Mutex
	accounts map[string]*account // by namespace
	server   server
	problem  error // why the last check failed; nil if it succeeded
	onChange func(namespaces []string)

	// Used only by look.
	source   Server
	nodes    map[node]*state
	unwanted map[string]time.Time // own users that no namespace needs, since when
}

// state is the known state of one node.
type state struct {
	conn    *conn
	applied map[string]int // user to the version of its account
}

// New returns Users that do nothing before Start.
func New(o Options) *Users {
	for value, fallback := range map[*time.Duration]time.Duration{&o.Period: period, &o.Grace: grace, &o.Linger: linger} {
		if *value == 0 {
			*value = fallback
		}
	}
	return &Users{
		Options: o, first: make(chan struct{}), again: make(chan struct{}, 1), removals: make(chan struct{}, maxRemovals),
		accounts: map[string]*account{}, nodes: map[node]*state{}, unwanted: map[string]time.Time{},
	}
}

// OnChange registers f, which is called with the namespaces for which the result of URL has changed.
func (u *Users) OnChange(f func(namespaces []string)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.onChange = f
}

// Ready reports whether the server has been checked, so that the result of URL is meaningful.
func (u *Users) Ready() bool {
	select {
	case <-u.first:
		return true
	default:
		return false
	}
}

// URL returns the Redis URL for the receivers of a namespace. Its error is ErrPending, or ErrUnavailable wrapped together with
// the reason. It never blocks.
func (u *Users) URL(namespace string) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.accounts[namespace]; a != nil && a.handed != "" {
		return u.server.as(login{u.user(namespace), a.handed}), nil
	}
	u.hurry()
	if u.problem != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, u.problem)
	}
	return "", ErrPending
}

// Refused returns the answer of Redis if an error of URL means that it does not let the operator create users.
func Refused(err error) (answer string, refused bool) {
	e, ok := errors.AsType[serverError](err)
	return string(e), ok && e.refusal()
}

// Reported records the reports of one webhook's receivers: whether all of them use a URL, which counts if it is the current
// result of URL. After an error that a missing user would explain, the server is checked at once.
func (u *Users) Reported(namespace, webhook, url string, all, failed bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.accounts[namespace]; a != nil {
		a.reported[webhook] = all && url == u.server.as(login{u.user(namespace), a.handed})
		if failed {
			a.version++ // so that it is written again, whatever state the server seems to have
			u.hurry()
		}
	}
}

// answers reports whether an error is an answer of the server, after which the connection is still usable.
func answers(err error) bool {
	_, ok := errors.AsType[serverError](err)
	return ok
}

func (u *Users) hurry() {
	select {
	case u.again <- struct{}{}:
	default:
	}
}

func (u *Users) user(namespace string) string { return u.prefix() + namespace }

// prefix ends with a character that occurs in no namespace's name.
func (u *Users) prefix() string { return "heymarket." + u.Owner + "." }

// Start checks the server until ctx ends. It implements controller-runtime's manager.Runnable: only one manager does so at a
// time.
func (u *Users) Start(ctx context.Context) error {
	ticker := time.NewTicker(u.Period)
	defer ticker.Stop()
	said := ""
	for {
		err := u.look(ctx)
		switch {
		case ctx.Err() != nil:
			u.forget(func(node) bool { return true })
			return nil
		case err == nil && said != "":
			u.Log.Info("The Redis users of all namespaces have been restored")
			said = ""
		case err != nil && err.Error() != said: // Logged once, not at every check.
			said = err.Error()
			u.Log.Error(err, "Cannot maintain a Redis user for each namespace")
		}
		if !u.Ready() {
			close(u.first)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-u.again:
		}
	}
}

// look updates every node that answers to the wanted state.
func (u *Users) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	want, err := u.prepare(ctx)
	var changed []string
	if err == nil {
		changed, err = u.keep(ctx, want)
	}
	u.mu.Lock()
	if fmt.Sprint(err) != fmt.Sprint(u.problem) {
		for ns, a := range u.accounts {
			if a.handed == "" { // its webhooks report the reason
				changed = append(changed, ns)
			}
		}
	}
	u.problem = err
	wake := u.onChange
	u.mu.Unlock()
	if wake != nil && len(changed) > 0 {
		wake(changed)
	}
	return err
}

// wanted is the state that every node should have.
type wanted struct {
	server server
	users  map[string]wantedUser // by name
}

type wantedUser struct {
	namespace string
	passwords []string
	version   int
}

// prepare updates the accounts.
func (u *Users) prepare(ctx context.Context) (wanted, error) {
	webhooks, err := u.Webhooks(ctx)
	if err != nil {
		return wanted{}, fmt.Errorf("list webhooks: %w", err)
	}
	source := u.Server()
	read, err := parse(source)
	if err != nil {
		return wanted{}, err
	}
	now := time.Now()
	claims := map[string][]string{}
	for ns, names := range webhooks {
		if u.accounts[ns] != nil { // only this goroutine writes the map
			continue
		}
		if passwords := claimed(u.HandedOut(ctx, ns, names), u.user(ns), now); len(passwords) > 0 {
			claims[u.user(ns)] = passwords
		}
	}
	valid, err := read.known(ctx, claims)
	if err != nil {
		return wanted{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if source.URL != u.source.URL || string(source.CA) != string(u.source.CA) {
		u.moved(source, read)
	}
	u.server = read
	for ns := range webhooks {
		if u.accounts[ns] == nil {
			u.accounts[ns] = adopt(valid[u.user(ns)], now)
		}
	}
	maps.DeleteFunc(u.accounts, func(ns string, _ *account) bool { return webhooks[ns] == nil })
	want := wanted{server: read, users: make(map[string]wantedUser, len(u.accounts))}
	for ns, a := range u.accounts {
		a.rotate(now, u.RotateAfter, u.Grace, webhooks[ns])
		want.users[u.user(ns)] = wantedUser{ns, slices.Clone(a.passwords), a.version}
	}
	return want, nil
}

// moved discards the state of another server: no receiver is sent to a server before its user has been created there.
func (u *Users) moved(source Server, to server) {
	if u.source.URL != "" && !slices.Equal(u.server.addresses, to.addresses) {
		for _, a := range u.accounts {
			a.handed, a.confirmed = "", 0
		}
	}
	u.source = source
	u.forget(func(node) bool { return true })
}

func (u *Users) forget(which func(node) bool) {
	for n, s := range u.nodes {
		if which(n) {
			if s.conn != nil {
				_ = s.conn.net.Close()
			}
			delete(u.nodes, n)
		}
	}
}

// keep updates all nodes concurrently, and records what all that answered have accepted. It returns the namespaces that must be
// given another password.
func (u *Users) keep(ctx context.Context, want wanted) ([]string, error) {
	nodes, err := want.server.discover(ctx, slices.Collect(maps.Keys(u.nodes)))
	if err != nil {
		return nil, err
	}
	u.forget(func(n node) bool { return !slices.Contains(nodes, n) })
	drop := u.withdraw()
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		if u.nodes[n] == nil {
			u.nodes[n] = &state{applied: map[string]int{}}
		}
		s := u.nodes[n]
		all.Go(func() {
			kept := s.conn != nil
			errs[i] = u.bring(ctx, n, s, want, drop)
			if kept && errs[i] != nil && !answers(errs[i]) { // a restarted node has closed the connection
				errs[i] = u.bring(ctx, n, s, want, drop)
			}
		})
	}
	all.Wait()
	return u.confirm(want, nodes, errs), errors.Join(errs...)
}

// withdraw returns a function that reports whether an own user has been unwanted for long enough to be deleted. It is called for
// each existing one.
func (u *Users) withdraw() func(user string) bool {
	now := time.Now()
	before := u.unwanted
	u.unwanted = map[string]time.Time{}
	var mu sync.Mutex
	return func(user string) bool {
		since, known := before[user]
		if !known {
			since = now
		}
		mu.Lock()
		defer mu.Unlock()
		u.unwanted[user] = since
		return known && now.Sub(since) > u.Linger
	}
}

// confirm records for each account whether every node that answered has it. A node that is down gets it once it is up again.
func (u *Users) confirm(want wanted, nodes []node, errs []error) (changed []string) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, w := range want.users {
		answered, missing := 0, 0
		for i, n := range nodes {
			switch {
			case errs[i] != nil && !answers(errs[i]):
			case u.nodes[n].applied[name] == w.version:
				answered++
			default:
				missing++
			}
		}
		a := u.accounts[w.namespace]
		if answered > 0 && missing == 0 && a.version == w.version && a.confirm(w.version, now) {
			changed = append(changed, w.namespace)
		}
	}
	return changed
}

// bring makes one node have all scripts and exactly the wanted users, in addition to users of others.
func (u *Users) bring(ctx context.Context, n node, s *state, want wanted, drop func(string) bool) (err error) {
	if s.conn == nil {
		if s.conn, err = want.server.dial(ctx, n); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil && !answers(err) {
			_ = s.conn.net.Close()
			s.conn = nil
		}
	}()
	if !n.sentinel {
		if err := loadScripts(ctx, s.conn); err != nil {
			return fmt.Errorf("load scripts into Redis %s: %w", n.address, err)
		}
	}
	list, err := s.conn.one(ctx, "ACL", "USERS")
	if err != nil {
		return fmt.Errorf("list the users of Redis %s: %w", n.address, err)
	}
	there := map[string]bool{}
	var work [][]string
	var done []func()
	for _, name := range list.texts() {
		there[name] = true
		if _, wanted := want.users[name]; !wanted && strings.HasPrefix(name, u.prefix()) && drop(name) {
			work = append(work, []string{"ACL", "DELUSER", name})
			done = append(done, func() { delete(s.applied, name) })
		}
	}
	for name, w := range want.users {
		if !there[name] || s.applied[name] != w.version {
			delete(s.applied, name)
			work = append(work, setUser(n, name, w.namespace, want.server.database(), w.passwords))
			done = append(done, func() { s.applied[name] = w.version })
		}
	}
	for len(work) > 0 {
		now := min(batch, len(work))
		replies, err := s.conn.do(ctx, work[:now]...)
		if err != nil {
			return fmt.Errorf("write users of Redis %s: %w", n.address, err)
		}
		for i, r := range replies {
			if r.err != nil {
				return fmt.Errorf("write users of Redis %s: %w", n.address, r.err)
			}
			done[i]()
		}
		work, done = work[now:], done[now:]
	}
	return nil
}
