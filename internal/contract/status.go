package contract

import "time"

// StatusPath is where the operations port of a receiver answers a Status, in JSON.
const StatusPath = "/status"

// What Status.Redis is besides a sentence that says what is wrong.
const (
	// RedisOK means that Redis answers and takes writes.
	RedisOK = "ok"
	// RedisConnecting means that the receiver has just started and has not reached Redis yet.
	RedisConnecting = "connecting"
)

// The names of TokenStatus.
const (
	TokenCurrent  = "current"
	TokenPrevious = "previous"
)

// BacklogMember is the JSON name of Status.Backlog, for autoscalers that read it.
const BacklogMember = "backlog"

// Status is what one receiver reports about itself. It holds nothing secret. To a reader it is untrusted: anything in the
// cluster can answer at a Pod's address.
type Status struct {
	// Version is the build.
	Version string `json:"version"`
	// ConfigDigest identifies the configuration in force.
	ConfigDigest string `json:"configDigest"`
	// Redis is RedisOK, RedisConnecting, or one sentence that says what is wrong.
	Redis string `json:"redis"`
	// RedisURLDigest identifies the Redis URL that it is connected by, see the function of that name; missing before that, and
	// where the operator has not made the password.
	RedisURLDigest string `json:"redisURLDigest,omitempty"`
	// Durable says that Redis takes writes and promises to keep what it has confirmed. If it is false and there are no
	// Problems, the receiver does not know yet.
	Durable bool `json:"durable"`
	// Problems say why events are not accepted, or why accepted ones can be lost. They are sorted, each once. A receiver of
	// the release before reports DurabilityProblems alone.
	Problems []Problem `json:"problems,omitempty"`
	// DurabilityProblems are the sentences of those Problems that Redis itself has reported, for people and for an operator of
	// the release before.
	DurabilityProblems []string `json:"durabilityProblems,omitempty"`
	// RedisClockSkewSeconds is by how much the clock of Redis is ahead of this receiver's, in whole seconds; negative: behind;
	// missing: less than one, or not known yet.
	RedisClockSkewSeconds int64 `json:"redisClockSkewSeconds,omitempty"`
	// Tokens are those in force, the current one first.
	Tokens []TokenStatus `json:"tokens"`
	// Targets are the targets of the configuration in force.
	Targets []TargetStatus `json:"targets"`
	// Backlog is the sum of Pending over them. It is missing while Redis does not answer, so that an autoscaler does not take
	// that for no work.
	Backlog *int64 `json:"backlog,omitempty"`
	// BacklogBytes are those of all pending events and dead letters, and BacklogFull says that events are rejected because they
	// have reached the bound of the webhook.
	BacklogBytes int64 `json:"backlogBytes,omitempty"`
	BacklogFull  bool  `json:"backlogFull,omitempty"`
	// Removal is how far the removal of the webhook's keys from Redis is; missing unless the receiver was started for it.
	Removal *Removal `json:"removal,omitempty"`
}

// TokenStatus says when a token was used last. It names the token by its place in a rotation.
type TokenStatus struct {
	// Name is TokenCurrent or TokenPrevious.
	Name string `json:"name"`
	// LastUsed is when this receiver last accepted it, cut to the minute; missing: not since the receiver began.
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

// TargetStatus is the state of one target, over all receivers of the webhook.
type TargetStatus struct {
	Name string `json:"name"`
	// Pending and DeadLetters count events.
	Pending     int64 `json:"pending"`
	DeadLetters int64 `json:"deadLetters"`
	// Circuit is the state as this receiver sees it.
	Circuit Circuit `json:"circuit"`
	// LastDelivered is when the target last took an event from this receiver, cut to the minute; missing: not since the
	// receiver began.
	LastDelivered time.Time `json:"lastDelivered,omitzero"`
	// OldestPending is when the oldest undelivered event entered its queue, by acceptance or replay, cut to the minute; missing:
	// none waits.
	OldestPending time.Time `json:"oldestPending,omitzero"`
	// LastError is why attempts of this receiver fail; missing while none does.
	LastError *TargetError `json:"lastError,omitempty"`
	// NextAttempt is when the next retry is due, cut to the minute; missing: no event waits for a retry.
	NextAttempt time.Time `json:"nextAttempt,omitzero"`
}

// Removal is how far the removal of a webhook's keys from Redis is.
type Removal struct {
	// Done means that no key of the webhook is left.
	Done bool `json:"done"`
	// Keys is how many keys have been removed.
	Keys int64 `json:"keys"`
}
