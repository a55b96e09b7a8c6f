package redisusers

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names a script by it.
	"embed"
	"encoding/hex"
	"slices"

	"heymarket.dev/operator/internal/receiver/stream"
)

// before holds the scripts of the previous release, by their SHA-1. Its receivers run beside this manager during an upgrade or
// a rollback, and cannot load their own. TestScriptsOfTheReleaseBefore writes them when a release is made.
//
//go:embed before/*.lua
var before embed.FS

// scripts are the scripts that receivers run by EVALSHA.
var scripts = func() []string {
	all := stream.Scripts()
	files, _ := before.ReadDir("before") // embedded: it cannot fail
	for _, f := range files {
		if text, err := before.ReadFile("before/" + f.Name()); err == nil && !slices.Contains(all, string(text)) {
			all = append(all, string(text))
		}
	}
	return all
}()

func digest(script string) string {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // Redis identifies a script by it
	return hex.EncodeToString(sum[:])
}

// loadScripts loads the scripts that a node does not have: Redis loses them when it restarts.
func loadScripts(ctx context.Context, c *conn) error {
	exists := []string{"SCRIPT", "EXISTS"}
	for _, s := range scripts {
		exists = append(exists, digest(s))
	}
	answer, err := c.one(ctx, exists...)
	if err != nil {
		return err
	}
	var load [][]string
	for i, there := range answer.texts() {
		if there != "1" && i < len(scripts) {
			load = append(load, []string{"SCRIPT", "LOAD", scripts[i]})
		}
	}
	if len(load) == 0 {
		return nil
	}
	replies, err := c.do(ctx, load...)
	if err != nil {
		return err
	}
	for _, r := range replies {
		if r.err != nil {
			return r.err
		}
	}
	return nil
}
