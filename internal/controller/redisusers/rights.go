package redisusers

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"heymarket.dev/operator/internal/contract"
)

// commands are all that a receiver needs, itself and in its scripts. A test takes away one after another and expects each to
// be missed.
//
// EVAL is not among them: a namespace runs the scripts that the manager loads, by EVALSHA, and none of its own. So it cannot
// hold up Redis by an endless one, or use a mistake in Redis's Lua to run code as another user. Nor is SCAN, which shows the
// names of all keys whatever the user may read.
var commands = strings.Fields("ping info role cluster|slots cluster|shards evalsha " +
	"time exists get set del unlink hget hmget hset hincrby hdel hgetall hvals zadd zrem zrange " +
	"xadd xlen xrange xdel xtrim xack xclaim xautoclaim xpending xreadgroup xgroup|create xgroup|delconsumer xinfo|consumers xinfo|stream")

// sentinelCommands are all that a receiver needs of a Sentinel.
var sentinelCommands = strings.Fields("ping sentinel|get-master-addr-by-name sentinel|sentinels subscribe unsubscribe")

// setUser is the command that gives a user these passwords and these rights, and takes every other away.
//
// The prefix of a namespace's keys holds none of the characters of a pattern: the name is a DNS label.
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

// passwordDigest is what Redis keeps of a password.
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
