package redisusers

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"heymarket.dev/operator/internal/contract"
)

// commands are all the commands that a receiver and its scripts need. A test removes each in turn and expects a failure.
//
// EVAL is omitted: a namespace can run only the scripts that the manager loads, by EVALSHA. So it cannot block Redis with
// an endless script, or exploit a fault in Redis's Lua to act as another user. SCAN is not among them either: it returns
// the names of all keys, whatever the user may read.
var commands = strings.Fields("ping info role cluster|slots cluster|shards evalsha " +
	"time exists get set del unlink hget hmget hset hincrby hdel hgetall hvals zadd zrem zrange " +
	"xadd xlen xrange xdel xtrim xack xclaim xautoclaim xpending xreadgroup xgroup|create xgroup|delconsumer xinfo|consumers xinfo|stream")

// sentinelCommands are all commands that a receiver needs at a Sentinel.
var sentinelCommands = strings.Fields("ping sentinel|get-master-addr-by-name sentinel|sentinels subscribe unsubscribe")

// setUser is the command that sets a user's passwords and rights, and revokes all others.
//
// The key prefix of a namespace contains no pattern characters, because the name is a DNS label.
func setUser(n node, user, namespace, database string, passwords []string) []string {
	args := []string{"ACL", "SETUSER", user, "reset", "on"}
	for _, p := range passwords {
		args = append(args, "#"+passwordDigest(p))
	}
	if n.sentinel {
		return append(allowed(args, sentinelCommands), "resetchannels", "allchannels")
	}
	args = allowed(append(args, "resetchannels", "~"+contract.RedisNamespacePrefix(namespace)+"*"), commands)
	if database != "" {
		args = append(args, "+select|"+database)
	}
	return args
}

// passwordDigest returns the digest that Redis stores of a password.
func passwordDigest(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func allowed(args, commands []string) []string {
	for _, c := range commands {
		args = append(args, "+"+c)
	}
	return args
}
