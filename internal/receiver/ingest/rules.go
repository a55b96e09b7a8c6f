package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"sync/atomic"
)

// rules are Settings prepared once for all requests.
type rules struct {
	Settings
	paths  [][sha256.Size]byte
	tokens []knownToken
}

// newRules prepares settings. A token that stays in force keeps its time of last use.
func newRules(s Settings, before *rules) *rules {
	r := &rules{Settings: s}
	for _, p := range s.Paths {
		r.paths = append(r.paths, sha256.Sum256([]byte(p)))
	}
	for i, text := range s.Tokens {
		if len(text) == 0 { // a body without a token would match it
			continue
		}
		t := knownToken{CurrentToken, sha256.Sum256(text), new(atomic.Int64)}
		if i > 0 {
			t.name = PreviousToken
		}
		if before != nil {
			for _, known := range before.tokens {
				if known.digest == t.digest {
					t.lastUsed = known.lastUsed
				}
			}
		}
		r.tokens = append(r.tokens, t)
	}
	return r
}

// wanting returns the targets that accept a type, and whether one of them is ordered.
func (r *rules) wanting(eventType string) (targets []string, ordered bool) {
	if !wants(r.EventTypes, eventType) {
		return nil, false
	}
	targets = make([]string, 0, len(r.Targets))
	for _, t := range r.Targets {
		if wants(t.EventTypes, eventType) {
			targets = append(targets, t.Name)
			ordered = ordered || t.Ordered
		}
	}
	return targets, ordered
}

func wants(types []string, t string) bool { return len(types) == 0 || slices.Contains(types, t) }

// matches compares with all of known, always, in constant time: the duration shows neither how much of a secret was
// right nor which of them matched.
func matches(known [][sha256.Size]byte, sum [sha256.Size]byte) bool {
	found := 0
	for i := range known {
		found |= subtle.ConstantTimeCompare(known[i][:], sum[:])
	}
	return found == 1
}
