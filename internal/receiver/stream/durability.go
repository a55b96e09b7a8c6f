package stream

import (
	"context"
	_ "embed"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"heymarket.dev/operator/internal/contract"
)

//go:embed probe.lua
var probeSource string

var probeScript = newScript(probeSource)

func (s *Store) probe(ctx context.Context, c rueidis.Client) error {
	return probeScript.Exec(ctx, c, []string{s.prefix + "probe"}, nil).Error()
}

// Check writes to Redis and reads its durability settings. It returns, sorted, every problem that prevents events from being
// accepted or can lose accepted ones. Besides the commands of receivers, it needs INFO, which every ACL should allow.
func (s *Store) Check(ctx context.Context) []contract.Problem {
	err := s.call(ctx, s.probe)
	problems := []contract.Problem{}
	if p := Problem(err); p != "" {
		problems = append(problems, p)
	}
	if err == nil || !Problem(err).OfConnection() {
		var info map[string]string
		err := s.call(ctx, func(ctx context.Context, c rueidis.Client) error {
			text, err := c.Do(ctx, c.B().Info().Build()).ToString()
			info = parseInfo(text)
			return err
		})
		if err != nil {
			problems = append(problems, Problem(err))
		} else {
			problems = append(problems, judge(info)...)
			if bytes, err := strconv.ParseInt(info["maxmemory"], 10, 64); err == nil {
				s.maxMemory.Store(bytes)
			}
		}
	}
	slices.Sort(problems)
	return slices.Compact(problems)
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

// judge compares the answer to INFO with the requirements of a durable store.
func judge(info map[string]string) (problems []contract.Problem) {
	for _, rule := range []struct {
		broken  bool
		problem contract.Problem
	}{
		{info["maxmemory_policy"] != "noeviction", contract.RedisEvicts},
		{info["aof_enabled"] == "0", contract.RedisForgets},
		{info["aof_enabled"] == "1" && info["aof_last_write_status"] == "err", contract.RedisCannotSave},
		{info["role"] == "slave", contract.RedisReadOnly},
		{tooOld(info["redis_version"]), contract.RedisTooOld},
	} {
		if rule.broken {
			problems = append(problems, rule.problem)
		}
	}
	return problems
}

func tooOld(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false // a compatible server with different version numbers
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major < 6 || major == 6 && minor < 2)
}
