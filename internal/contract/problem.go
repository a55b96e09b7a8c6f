package contract

// Problem is a code for a problem that keeps a receiver from accepting events, or that can lose accepted ones.
type Problem string

// The problems with a connection to Redis.
const (
	RedisUnreachable Problem = "Unreachable"      // no connection, or no answer in time
	RedisBlocked     Problem = "BlockedAddress"   // an address that receivers must not connect to
	RedisMalformed   Problem = "MalformedAnswer"  // the server does not speak the Redis protocol, or exceeds its bounds
	RedisBadLogin    Problem = "LoginRefused"     // wrong user or password
	RedisBadSettings Problem = "InvalidSettings"  // the URL or the certificates cannot be used
	RedisUntrusted   Problem = "UntrustedTLS"     // the certificate is not trusted
	RedisOtherError  Problem = "UnexpectedAnswer" // any error without a code in this list
	RedisLoading     Problem = "Loading"          // it reads its files after a restart
	RedisReadOnly    Problem = "ReadOnly"         // a replica, or a demoted primary
	RedisNoPrimary   Problem = "NoPrimary"        // a replica without its primary, or a cluster with slots that no node serves
	RedisFull        Problem = "OutOfMemory"      // maxmemory is reached
	RedisCannotSave  Problem = "CannotSave"       // its disk fails or is full
	RedisFewReplicas Problem = "TooFewReplicas"   // below min-replicas-to-write
	RedisNoRights    Problem = "NoRights"         // the user lacks commands or keys
	RedisEvicts      Problem = "Evicts"           // maxmemory-policy is not noeviction
	RedisForgets     Problem = "NoAppendOnlyFile" // appendonly is off
	RedisTooOld      Problem = "UnsupportedVersion"
	RedisClockSkew   Problem = "ClockSkew" // its clock and the receiver's differ by more than a minute
)

// messages are the sentences that conditions, logs and /status share.
var messages = map[Problem]string{
	RedisUnreachable: "Redis cannot be reached: check that it runs, that the host and port of its URL are right, and that no NetworkPolicy blocks the connection.",
	RedisBlocked:     "The address of Redis is blocked: it is a loopback, link-local or metadata address, or one that the operator's --target-addresses excludes. Set another host in the Redis URL.",
	RedisMalformed:   "The server at the address of Redis sends answers that are not valid in the Redis protocol: check the host and port of the Redis URL.",
	RedisBadLogin:    "Redis rejects the login: check user and password in the Redis URL.",
	RedisBadSettings: "The Redis URL or its certificate authority is not valid: write the URL as redis://user:password@host:6379/0, or rediss:// for TLS, and the authority in PEM form.",
	RedisUntrusted:   "The certificate of Redis is not trusted: check the certificate authority and that the certificate names the host of the Redis URL.",
	RedisOtherError:  "Redis answers with an error: see the log of the receiver.",
	RedisLoading:     "Redis is loading its data after a restart. Resolves automatically once it has finished.",
	RedisReadOnly:    "Redis is a read-only replica: set its primary in the Redis URL, or use Sentinel.",
	RedisNoPrimary:   "Redis has lost its primary, or its cluster is down: check the state of replication or of the cluster.",
	RedisFull:        "Redis is out of memory and rejects new events: raise its maxmemory, or fix the target whose backlog fills it.",
	RedisCannotSave:  "Redis cannot write its files: check its log and whether its disk is full.",
	RedisFewReplicas: "Redis has fewer replicas than its min-replicas-to-write and rejects new events: restore its replicas.",
	RedisNoRights:    "The Redis user lacks rights that receivers need: grant the commands and keys that docs/redis.md lists.",
	RedisEvicts:      "Redis may evict undelivered events: set its maxmemory-policy to noeviction.",
	RedisForgets:     "Redis loses events when it restarts: its append-only file is off; set appendonly yes.",
	RedisClockSkew:   "The clocks of Redis and a receiver differ by more than a minute: retries may come early or late, and nothing expires meanwhile. Synchronize the clocks of their nodes, by NTP for example.",
	RedisTooOld:      "This version of Redis is not supported: use 6.2 or later.",
}

// Message is one sentence about the problem that ends with the remedy; "" if p is not one of the constants.
func (p Problem) Message() string { return messages[p] }

// Known reports whether p is one of the constants.
func (p Problem) Known() bool { return messages[p] != "" }

// Accepting reports whether events are still accepted. Accepted ones can be lost, or late.
func (p Problem) Accepting() bool {
	return p == RedisEvicts || p == RedisForgets || p == RedisTooOld || p == RedisClockSkew
}

// OfConnection reports whether Redis itself has not answered.
func (p Problem) OfConnection() bool {
	switch p {
	case RedisUnreachable, RedisBlocked, RedisMalformed, RedisBadSettings, RedisUntrusted:
		return true
	}
	return false
}

// WrongNode reports whether another connection may reach a working node: several nodes can share one address.
func (p Problem) WrongNode() bool {
	switch p {
	case RedisReadOnly, RedisNoPrimary, RedisLoading, RedisFewReplicas, RedisBadLogin, RedisNoRights:
		return true
	}
	return false
}
