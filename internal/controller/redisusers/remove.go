package redisusers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"heymarket.dev/operator/internal/contract"
)

// scanStep is how many keys one command examines, about a millisecond of work, which bounds how long other clients wait.
const scanStep = "1000"

// RemoveKeys removes every key of the webhook namespace/name from the operator's own Redis and returns how many there were:
// the namespace's user cannot, because it must not see the names of others' keys. No receiver of the webhook may still be
// running. Its cost grows with the number of all keys in that Redis, so it runs for few webhooks at a time; further calls,
// and calls while the server does not answer, return an error at once. After an error, call it again.
func (u *Users) RemoveKeys(ctx context.Context, namespace, name string) (int, error) {
	select {
	case u.removals <- struct{}{}:
		defer func() { <-u.removals }()
	default:
		return 0, errBusy
	}
	u.mu.Lock()
	problem := u.problem
	u.mu.Unlock()
	if problem != nil {
		return 0, problem
	}
	s, err := parse(u.Server())
	if err != nil {
		return 0, fmt.Errorf("remove keys: %w", err)
	}
	nodes, err := s.discover(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("remove keys: %w", err)
	}
	removed := 0
	for _, n := range nodes {
		if !n.primary {
			continue
		}
		count, err := removeFrom(ctx, s, n, contract.RedisPrefix(namespace, name))
		removed += count
		if err != nil {
			return removed, fmt.Errorf("remove keys from Redis %s: %w", n.address, err)
		}
	}
	return removed, nil
}

func removeFrom(ctx context.Context, s server, n node, prefix string) (removed int, err error) {
	c, err := s.dial(ctx, n)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.net.Close() }()
	if db := s.database(); db != "" {
		if _, err := c.one(ctx, "SELECT", db); err != nil {
			return 0, err
		}
	}
	for cursor := "0"; ; {
		// Names in Kubernetes contain no pattern characters, and "{" is not one.
		page, err := c.one(ctx, "SCAN", cursor, "MATCH", prefix+"*", "COUNT", scanStep)
		if err != nil {
			return removed, err
		}
		if len(page.items) != 2 {
			return removed, errors.New("Redis answered SCAN in an unknown form") //nolint:staticcheck // a name
		}
		unlink := []string{"UNLINK"}
		for _, key := range page.items[1].texts() {
			if strings.HasPrefix(key, prefix) {
				unlink = append(unlink, key)
			}
		}
		if len(unlink) > 1 {
			if _, err := c.one(ctx, unlink...); err != nil {
				return removed, err
			}
			removed += len(unlink) - 1
		}
		if cursor = page.items[0].text; cursor == "0" {
			return removed, nil
		}
	}
}
