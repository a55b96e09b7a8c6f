package redisusers

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// After a restart, the manager reads the passwords it has issued from the receivers' Secrets, which a tenant may be able to
// write. It trusts a password only if Redis lists it for that user, because only the operator sets passwords in Redis.

// maxURL bounds a URL that is read back, in bytes.
const maxURL = 4 << 10

// claimed returns the passwords of a user in URLs, the newest first, if they have the form of newPassword's.
func claimed(urls []string, user string, now time.Time) []string {
	var passwords []string
	for _, text := range urls {
		if len(text) > maxURL {
			continue
		}
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.User.Username() != user {
			continue
		}
		password, _ := u.User.Password()
		if !madeAt(password, now).IsZero() && !slices.Contains(passwords, password) {
			passwords = append(passwords, password)
		}
	}
	slices.SortFunc(passwords, func(a, b string) int { return madeAt(b, now).Compare(madeAt(a, now)) })
	return passwords
}

// adopt returns an account with these passwords, the newest first, or with a new one if there are none.
func adopt(passwords []string, now time.Time) *account {
	a := &account{version: 1, reported: map[string]bool{}, passwords: passwords[:min(len(passwords), 2)]}
	if len(passwords) == 0 {
		a.passwords = []string{newPassword(now)}
		return a
	}
	a.handed, a.handedAt = a.passwords[0], now
	return a
}

// known returns those of the claimed passwords, by user, that a node of the server has for that user. It queries the nodes
// in turn until all are known. An error means that no node answered, or that one refused.
func (s server) known(ctx context.Context, claims map[string][]string) (map[string][]string, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	nodes, err := s.discover(ctx, nil)
	if err != nil {
		return nil, err
	}
	valid, answered := map[string][]string{}, false
	var last error
	for _, n := range slices.DeleteFunc(nodes, func(n node) bool { return n.sentinel }) {
		digests, err := s.digests(ctx, n, slices.Collect(maps.Keys(claims)))
		switch {
		case answers(err):
			return nil, err
		case err != nil:
			last = err
			continue
		}
		answered = true
		missing := false
		for user, passwords := range claims {
			for _, p := range passwords {
				if !slices.Contains(valid[user], p) && slices.Contains(digests[user], passwordDigest(p)) {
					valid[user] = append(valid[user], p)
				}
			}
			missing = missing || len(valid[user]) < len(passwords)
		}
		if !missing {
			break
		}
	}
	if !answered {
		return nil, last
	}
	for user, passwords := range claims { // in their order
		valid[user] = slices.DeleteFunc(passwords, func(p string) bool { return !slices.Contains(valid[user], p) })
	}
	return valid, nil
}

// digests queries a node for the digests of the users' passwords.
func (s server) digests(ctx context.Context, n node, users []string) (map[string][]string, error) {
	c, err := s.dial(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.net.Close() }()
	out := map[string][]string{}
	for some := range slices.Chunk(users, batch) {
		ask := make([][]string, len(some))
		for i, user := range some {
			ask[i] = []string{"ACL", "GETUSER", user}
		}
		replies, err := c.do(ctx, ask...)
		if err != nil {
			return nil, fmt.Errorf("read users of Redis %s: %w", n.address, err)
		}
		for i, r := range replies {
			if r.err != nil {
				return nil, fmt.Errorf("read users of Redis %s: %w", n.address, r.err)
			}
			if at := slices.Index(r.texts(), "passwords") + 1; at > 0 && at < len(r.items) {
				out[some[i]] = r.items[at].texts()
			}
		}
	}
	return out, nil
}
