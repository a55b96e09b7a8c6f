package redisusers

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/receiver/redistest"
)

// A tenant puts its own password where a starting manager reads: it does not become valid in Redis, whatever it looks like.
func TestAManagerThatStartsAdoptsNoPasswordOfATenant(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(own string) string{
		"one as they are made":        func(string) string { return newPassword(time.Now().Add(-time.Hour)) },
		"an old one":                  func(string) string { return newPassword(time.Now().AddDate(-1, 0, 0)) },
		"a part of the valid one":     func(own string) string { return own[:len(own)-1] },
		"the digest of the valid one": passwordDigest,
		"none":                        func(string) string { return "" },
	} {
		for state, disturb := range map[string]func(*redistest.Server){
			"":                              func(*redistest.Server) {},
			" at a Redis that forgot":       func(r *redistest.Server) { r.MustDo("ACL", "DELUSER", "heymarket.heymarket-system.staging") },
			" at a user without a password": func(r *redistest.Server) { r.MustDo("ACL", "SETUSER", "heymarket.heymarket-system.staging", "nopass") },
		} {
			t.Run(name+state, func(t *testing.T) {
				t.Parallel()
				r := redistest.Start(t)
				f := newFleet(t, r.URL(), nil, "staging")
				users, stop := f.run(nil)
				before := f.url(users, "staging")
				stop()
				disturb(r)
				u, err := url.Parse(before)
				if err != nil {
					t.Fatal(err)
				}
				own, _ := u.User.Password()
				u.User = url.UserPassword(u.User.Username(), forge(own))
				f.handed["staging"] = u.String()
				users, _ = f.run(nil)
				after := f.url(users, "staging")
				if after == u.String() {
					t.Fatal("the manager hands out what a tenant wrote")
				}
				if _, err := connect(t, u.String(), nil, "staging"); err == nil {
					t.Error("Redis accepts a password that a tenant wrote")
				}
				mustLive(t, after, nil, "staging")
			})
		}
	}
}

// A password is valid if any node of the Redis confirms it: a restarted node has lost its users.
func TestAClusterNodeThatForgotChangesNoPassword(t *testing.T) {
	t.Parallel()
	nodes, all := redistest.StartCluster(t)
	f := newFleet(t, all, nil, "a")
	users, stop := f.run(nil)
	before := f.url(users, "a")
	const user = "heymarket.heymarket-system.a"
	for keeps := range nodes {
		eventually(t, "the user on every node", func() error {
			for _, n := range nodes {
				if !strings.Contains(n.MustDo("ACL", "USERS"), user) {
					return fmt.Errorf("not on %s", n.Addr())
				}
			}
			return nil
		})
		stop()
		for i, n := range nodes {
			if i != keeps {
				n.MustDo("ACL", "DELUSER", user)
			}
		}
		users, stop = f.run(nil)
		if after := f.url(users, "a"); after != before {
			t.Errorf("a new manager replaced a password that node %d confirms", keeps)
		}
	}
	mustLive(t, before, nil, "a")
}

// While no Redis can confirm passwords, nothing is handed out and nothing replaced.
func TestAManagerThatStartsBeforeRedisKeepsThePasswords(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	f := newFleet(t, r.URL(), nil, "staging")
	users, stop := f.run(nil)
	before := f.url(users, "staging")
	stop()
	r.Freeze()
	users, _ = f.run(nil)
	eventually(t, "a problem", func() error {
		if got, err := users.URL("staging"); err == nil {
			t.Fatalf("receivers are handed %s", got)
		} else if !users.Ready() {
			return err
		}
		return nil
	})
	r.Thaw()
	if after := f.url(users, "staging"); after != before {
		t.Error("the password was replaced because Redis was away")
	}
}

func TestNewPasswordsAreOfTheFormThatIsAdopted(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if p := newPassword(now); madeAt(p, now).Unix() != now.Unix() {
		t.Errorf("%s would not be adopted", p)
	}
}
