package ingest

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"sync/atomic"
	"time"

	"heymarket.dev/operator/internal/contract"
)

// The names of the tokens.
const (
	CurrentToken  = contract.TokenCurrent
	PreviousToken = contract.TokenPrevious
)

// TokenUse records when an authenticated delivery last used a token.
type TokenUse struct {
	// Name is CurrentToken or PreviousToken.
	Name string
	// LastUsed is truncated to the minute; zero: not used since this process started.
	LastUsed time.Time
}

type knownToken struct {
	name   string
	digest [sha256.Size]byte
	// lastUsed is in minutes since the epoch. A token keeps it when it becomes the previous one.
	lastUsed *atomic.Int64
}

// authenticate returns the token that a delivery carries, or nil. It compares with all of them, always, in constant time.
func (r *rules) authenticate(given []byte) *knownToken {
	digest := sha256.Sum256(given)
	found := -1
	for i, t := range slices.Backward(r.tokens) {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(t.digest[:], digest[:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return &r.tokens[found]
}

// note records that t was used. It writes at most once a minute, to avoid contention between deliveries.
func (t *knownToken) note(now time.Time) {
	if minute := now.Unix() / 60; t.lastUsed.Load() < minute {
		t.lastUsed.Store(minute)
	}
}

// tokenUses returns when each token in force was last used, the current one first.
func (r *rules) tokenUses() []TokenUse {
	uses := make([]TokenUse, len(r.tokens))
	for i, t := range r.tokens {
		uses[i].Name = t.name
		if minute := t.lastUsed.Load(); minute > 0 {
			uses[i].LastUsed = time.Unix(minute*60, 0).UTC()
		}
	}
	return uses
}
