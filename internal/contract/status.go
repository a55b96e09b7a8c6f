package contract

import (
	"slices"
	"time"
)

// StatusPath is the path on a receiver's operations port that serves a Status, in JSON.
const StatusPath = "/status"

// The values of Status.Redis other than a sentence about a problem.
const (
	// RedisOK means that Redis answers and accepts writes.
	RedisOK = "ok"
	// RedisConnecting means that the receiver has just started and has not reached Redis yet.
	RedisConnecting = "connecting"
)

// The values of TokenStatus.Name.
const (
	TokenCurrent  = "current"
	TokenPrevious = "previous"
)

// BacklogMember is the JSON name of Status.Backlog, for autoscalers that read it.
const BacklogMember = "backlog"

// Status is the status that one receiver reports about itself. It holds no secrets. Readers must not trust it: anything in the
// cluster can answer at a Pod's address.
type Status struct {
	// Version is the build.
	Version string `json:"version"`
	// ConfigDigest identifies the configuration in force.
	ConfigDigest string `json:"configDigest"`
	// Redis is RedisOK, RedisConnecting, or one sentence about the problem.
	Redis string `json:"redis"`
	// RedisURLDigest identifies the Redis URL of the current connection, see the function of that name; missing before the first
	// connection, and if the operator has not generated the password.
	RedisURLDigest string `json:"redisURLDigest,omitempty"`
	// Durable reports that Redis accepts writes and is configured to keep what it has confirmed. If it is false and there are no
	// Problems, the receiver has not checked yet.
	Durable bool `json:"durable"`
	// Problems are the reasons why events are not accepted, or why accepted ones can be lost, sorted, without duplicates. A
	// receiver of the previous release reports only DurabilityProblems.
	Problems []Problem `json:"problems,omitempty"`
	// DurabilityProblems are the sentences of those Problems that Redis itself has reported, for people and for an operator of
	// the previous release.
	DurabilityProblems []string `json:"durabilityProblems,omitempty"`
	// RedisClockSkewSeconds is how far the clock of Redis is ahead of this receiver's, in whole seconds; negative: behind;
	// missing: less than one, or not known yet.
	RedisClockSkewSeconds int64 `json:"redisClockSkewSeconds,omitempty"`
	// Tokens are the tokens in force, the current one first.
	Tokens []TokenStatus `json:"tokens"`
	// Targets are the targets of the configuration in force.
	Targets []TargetStatus `json:"targets"`
	// Backlog is the sum of Pending over Targets. It is missing while Redis does not answer, so that an autoscaler does not
	// mistake that for an empty backlog.
	Backlog *int64 `json:"backlog,omitempty"`
	// BacklogBytes is the size of all pending events and dead letters. BacklogFull reports that events are rejected because it
	// has reached the bound of the webhook.
	BacklogBytes int64 `json:"backlogBytes,omitempty"`
	BacklogFull  bool  `json:"backlogFull,omitempty"`
	// Removal is the progress of removing the webhook's keys from Redis; missing unless the receiver was started for it.
	Removal *Removal `json:"removal,omitempty"`
}

// TokenStatus is when a token was last used. It identifies the token by its role in a rotation.
type TokenStatus struct {
	// Name is TokenCurrent or TokenPrevious.
	Name string `json:"name"`
	// LastUsed is when this receiver last accepted it, truncated to the minute; missing: not since the receiver started.
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// TargetStatus is the state of one target, over all receivers of the webhook.
type TargetStatus struct {
	Name string `json:"name"`
	// Pending and DeadLetters count events.
	Pending     int64 `json:"pending"`
	DeadLetters int64 `json:"deadLetters"`
	// Circuit is the state in this receiver.
	Circuit Circuit `json:"circuit"`
	// LastDelivered is when the target last accepted an event from this receiver, truncated to the minute; missing: not since
	// the receiver started.
	LastDelivered time.Time `json:"lastDelivered,omitzero"`
	// OldestPending is when the oldest undelivered event entered its queue, by acceptance or replay, truncated to the minute;
	// missing: none is pending.
	OldestPending time.Time `json:"oldestPending,omitzero"`
	// LastError is why attempts of this receiver fail; missing while they succeed.
	LastError *TargetError `json:"lastError,omitempty"`
	// NextAttempt is when the next retry is due, truncated to the minute; missing: no event waits for a retry.
	NextAttempt time.Time `json:"nextAttempt,omitzero"`
}

// With merges the reports of two receivers about one target. Counts are common to all receivers, so the larger one stands; of the
// circuits the worse, of the errors the older, and of the times the one that says most: the last delivery, the oldest event and
// the next attempt.
func (s TargetStatus) With(other TargetStatus) TargetStatus {
	s.Pending, s.DeadLetters = max(s.Pending, other.Pending), max(s.DeadLetters, other.DeadLetters)
	if slices.Index(Circuits(), other.Circuit) > slices.Index(Circuits(), s.Circuit) {
		s.Circuit = other.Circuit
	}
	if other.LastDelivered.After(s.LastDelivered) {
		s.LastDelivered = other.LastDelivered
	}
	s.OldestPending, s.NextAttempt = earlier(s.OldestPending, other.OldestPending), earlier(s.NextAttempt, other.NextAttempt)
	if s.LastError == nil || other.LastError != nil && other.LastError.Since.Before(s.LastError.Since) {
		s.LastError = other.LastError
	}
	return s
}

// MergeTargets merges the reports of several receivers, in the order in which they first name each target.
func MergeTargets(reports ...[]TargetStatus) (all []TargetStatus) {
	at := map[string]int{}
	for _, targets := range reports {
		for _, t := range targets {
			if i, known := at[t.Name]; known {
				all[i] = all[i].With(t)
			} else {
				at[t.Name], all = len(all), append(all, t)
			}
		}
	}
	return all
}

// earlier returns the earlier of two times, ignoring a zero time.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Removal is the progress of removing a webhook's keys from Redis.
type Removal struct {
	// Done means that no key of the webhook is left.
	Done bool `json:"done"`
	// Keys is how many keys have been removed.
	Keys int64 `json:"keys"`
}
