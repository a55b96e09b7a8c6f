package stream

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// CheckDurability asks Redis what it promises and returns one sentence for each thing that can lose accepted events, or
// none. It needs INFO alone, which every ACL should allow.
func (s *Store) CheckDurability(ctx context.Context) ([]string, error) {
	var info map[string]string
	err := s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
		text, err := c.Do(ctx, c.B().Info().Build()).ToString()
		info = parseInfo(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask Redis for INFO: %w", err)
	}
	return judge(info), nil
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// judge holds what INFO says against what a store of record needs.
func judge(info map[string]string) (problems []string) {
	if policy := info["maxmemory_policy"]; policy != "noeviction" {
		problems = append(problems, fmt.Sprintf(
			"Redis may evict events that are not delivered yet: its maxmemory-policy is %q; set it to noeviction.", policy))
	}
	if info["aof_enabled"] == "0" {
		problems = append(problems, "Redis forgets events when it restarts: its append-only file is off; set appendonly yes.")
	}
	if info["aof_enabled"] == "1" && info["aof_last_write_status"] == "err" {
		problems = append(problems, "Redis cannot write its append-only file: see its log, and whether its disk is full.")
	}
	if role := info["role"]; role == "slave" {
		problems = append(problems, "Redis is a replica and takes no writes: name its primary in the Redis URL, or use Sentinel.")
	}
	if v := info["redis_version"]; tooOld(v) {
		problems = append(problems, fmt.Sprintf("Redis %s lacks what is needed: use 6.2 or later.", v))
	}
	return problems
}

func tooOld(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false // a compatible server with a numbering of its own
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}
