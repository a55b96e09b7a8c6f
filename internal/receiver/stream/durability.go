package stream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
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

// refusals are what Redis answers to a write that it does not take, and what a person can do about it. That it is a replica
// is one of judge's problems.
var refusals = map[string]string{
	"OOM":        "Redis has no memory left and takes no new events: raise its maxmemory, or mend the target whose backlog fills it.",
	"MISCONF":    "Redis cannot save to its disk and takes no new events: see its log, and whether its disk is full.",
	"NOREPLICAS": "Redis has fewer replicas than its min-replicas-to-write and takes no new events: bring them back.",
	"NOPERM":     "Redis does not let its user do what receivers need, so it takes no new events: give the user back its rights.",
}

// Scripts pass the code on somewhere in their own error.
var refusalCode = regexp.MustCompile(`\b(OOM|MISCONF|NOREPLICAS|NOPERM)\b`)

// Refusal returns one sentence for an error by which Redis says that it takes no writes, though it can be reached and read; ""
// for any other.
func Refusal(err error) string {
	answer, ok := errors.AsType[*rueidis.RedisError](err)
	if !ok {
		return ""
	}
	return refusals[refusalCode.FindString(answer.Error())]
}
