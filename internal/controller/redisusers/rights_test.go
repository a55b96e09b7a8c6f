package redisusers

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/stream"
)

var update = flag.Bool("update", false, "write the present scripts as those of the release before")

// Run with -update on the released commit: its receivers are the previous release of the next one.
func TestScriptsOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("before/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range stream.Scripts() {
			if err := os.WriteFile("before/"+digest(s)+".lua", []byte(s), 0o644); err != nil { //nolint:gosec // source text
				t.Fatal(err)
			}
		}
		return
	}
	if len(names) == 0 {
		t.Error("there are none")
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "before/"+digest(string(text))+".lua" {
			t.Errorf("%s has been changed: a receiver asks for the script by that name", name)
		}
	}
}

// What receivers do besides their scripts, and who needs it.
var direct = []string{
	"ping", "info", "xrange", // stream.Store
	"evalsha",                         // every script
	"cluster|slots", "cluster|shards", // the client at a Cluster: before Redis 8, and from it on
	"role", // the client behind Sentinels
}

// How scripts name a command: by themselves, by attempt.lua, or for it to undo.
var call = regexp.MustCompile(`(?:redis\.p?call\(|attempt\(|undo\[[^]]*\] = \{)'([A-Z]+)'(?:, '([A-Z]+)')?`)

// unnamed are calls of what attempt.lua is given.
var unnamed = strings.NewReplacer("redis.pcall(...)", "", "redis.pcall(unpack(undo[i]))", "", "function attempt(", "")

// scriptOnly are commands of scripts that a namespace's user is not to have: RemoveKeys does what they are for.
var scriptOnly = []string{"scan"}

// A new command in a script makes this fail: it must be reviewed before a namespace gets it.
func TestTheRightsAreThoseThatScriptsNeed(t *testing.T) {
	t.Parallel()
	var need []string
	for _, s := range scripts {
		for line := range strings.SplitSeq(s, "\n") {
			code, _, _ := strings.Cut(line, "--")
			for _, m := range call.FindAllStringSubmatch(code, -1) {
				name := strings.ToLower(m[1])
				if slices.Contains([]string{"xgroup", "xinfo"}, name) {
					name += "|" + strings.ToLower(m[2])
				}
				need = append(need, name)
			}
			rest := unnamed.Replace(call.ReplaceAllString(code, ""))
			if strings.Contains(rest, "call(") || strings.Contains(rest, "attempt(") {
				t.Errorf("a command whose name does not stand in the script: %s", line)
			}
		}
	}
	need = slices.DeleteFunc(append(need, direct...), func(c string) bool { return slices.Contains(scriptOnly, c) })
	slices.Sort(need)
	need = slices.Compact(need)
	if have := slices.Sorted(slices.Values(commands)); !slices.Equal(have, need) {
		t.Errorf("rights:\n%q\nneeded:\n%q", have, need)
	}
}

func TestCommandsOf(t *testing.T) {
	t.Parallel()
	got := strings.Join(setUser(node{}, "heymarket.o.a", "a", "3", []string{"x"}), " ")
	if !strings.HasPrefix(got, "ACL SETUSER heymarket.o.a reset on #2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 resetchannels ~hmw:{a/* +ping ") ||
		!strings.HasSuffix(got, " +select|3") {
		t.Error(got)
	}
}
