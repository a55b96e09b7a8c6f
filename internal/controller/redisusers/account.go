package redisusers

import (
	"crypto/rand"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// account is the user of one namespace. It is kept only in memory: after a restart the manager adopts the passwords that
// it has handed out, see adopt.go.
type account struct {
	// passwords that are valid, the newest first: two during a rotation.
	passwords []string
	// handed is the password given to receivers, "" until the server has accepted one.
	handed string
	// handedAt is when it was first handed out in this rotation.
	handedAt time.Time
	// version counts the changes of passwords; confirmed is the last one that the server has accepted.
	version, confirmed int
	// reported are the webhooks whose receivers all use handed.
	reported map[string]bool
}

// passwordText starts with the time of creation, in seconds, so that a restarted manager knows when to replace it; 130
// random bits follow.
var passwordText = regexp.MustCompile(`^([0-9a-z]{6})-[A-Z2-7]{26}$`)

func newPassword(now time.Time) string {
	return strconv.FormatInt(now.Unix(), 36) + "-" + rand.Text()
}

// madeAt returns when newPassword generated the password, the zero time if it did not or the time is in the future.
func madeAt(password string, now time.Time) time.Time {
	parts := passwordText.FindStringSubmatch(password)
	if parts == nil {
		return time.Time{}
	}
	seconds, err := strconv.ParseInt(parts[1], 36, 64)
	if made := time.Unix(seconds, 0); err == nil && !made.After(now) {
		return made
	}
	return time.Time{}
}

// rotate generates a new password if the newest is older than every, and revokes the previous one once all webhooks have
// reported that they use the new one, or the grace period has expired. Zero every means never.
func (a *account) rotate(now time.Time, every, grace time.Duration, webhooks []string) {
	switch {
	case len(a.passwords) > 1:
		everyone := !slices.ContainsFunc(webhooks, func(name string) bool { return !a.reported[name] })
		if a.handed == a.passwords[0] && (everyone || now.Sub(a.handedAt) > grace) {
			a.passwords = a.passwords[:1]
			a.version++
		}
	case every > 0 && a.handed == a.passwords[0] && now.Sub(madeAt(a.handed, now)) > spread(every, a.handed):
		a.passwords = []string{newPassword(now), a.handed}
		a.version++
	}
}

// spread adds up to a tenth, so that passwords created together are not replaced together.
func spread(every time.Duration, password string) time.Duration {
	return every + every/10*time.Duration(password[len(password)-1]%32)/32
}

// confirm records that the server has accepted a version. It reports whether receivers must be given another password now.
func (a *account) confirm(version int, now time.Time) bool {
	a.confirmed = max(a.confirmed, version)
	if a.confirmed != a.version || a.handed == a.passwords[0] {
		return false
	}
	a.handed, a.handedAt = a.passwords[0], now
	clear(a.reported)
	return true
}
