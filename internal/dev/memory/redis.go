// Package memory is an in-memory Redis for local use: the receiver's scripts run on it unchanged, and all data is lost when it
// ends.
package memory

import (
	"crypto/rand"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Redis serves at a loopback address until Close.
type Redis struct {
	server   *miniredis.Miniredis
	password string
}

// info is the answer of a Redis without an append-only file: nothing is evicted, and nothing is kept on disk. So a receiver
// correctly reports that it is not durable.
const info = "# Server\r\nredis_version:7.4.0\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Persistence\r\naof_enabled:0\r\n# Replication\r\nrole:master\r\n"

// Start starts one at a free port. It uses the machine's clock for expiry.
func Start() (*Redis, error) {
	r := &Redis{miniredis.NewMiniRedis(), rand.Text()}
	r.server.RequireAuth(r.password) // other users of this machine can connect to loopback as well
	r.server.ClockTTL(true)
	if err := r.server.Start(); err != nil {
		return nil, fmt.Errorf("start the Redis in memory: %w", err)
	}
	r.server.Server().SetPreHook(func(peer *server.Peer, command string, _ ...string) bool {
		if command == "INFO" {
			peer.WriteBulk(info)
			return true
		}
		return false
	})
	return r, nil
}

// URL returns its URL, with its password.
func (r *Redis) URL() string { return "redis://:" + r.password + "@" + r.server.Addr() + "/0" }

// Close stops it and drops its data.
func (r *Redis) Close() { r.server.Close() }
