package redisusers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"heymarket.dev/operator/internal/contract"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// notOnOneRedis are rights that receivers use at another kind of Redis, in the previous release, or for expired data.
var notOnOneRedis = []string{"cluster|slots", "cluster|shards", "role", "exists"}

// ofTheReleaseBefore are rights that only receivers of the previous release use.
var ofTheReleaseBefore = []string{"xtrim"}

// denied matches what Redis answers where a right is missing, to a command or within a script.
var denied = regexp.MustCompile(`NOPERM|can't run this command|can't access at least one of the keys|ACL failure`)

// With all rights every operation of a receiver works, and without any one of them some operation fails.
func TestEachRightIsNeeded(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	for _, s := range scripts {
		r.MustDo("SCRIPT", "LOAD", s)
	}
	for i, without := range append([]string{""}, commands...) {
		if slices.Contains(notOnOneRedis, without) || slices.Contains(ofTheReleaseBefore, without) {
			continue
		}
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			ns := fmt.Sprintf("n%d", i)
			args := setUser(node{}, ns, ns, "", []string{"x"})
			r.MustDo(slices.DeleteFunc(args, func(a string) bool { return a == "+"+without })...)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			s, err := connect(t, strings.Replace(r.URL(), "redis://", "redis://"+ns+":x@", 1), nil, ns)
			if err == nil {
				err = live(ctx, s)
			}
			switch {
			case without == "" && err != nil:
				t.Errorf("with all rights: %v", err)
			case without != "" && !errors.Is(err, errCheckRefused) && stream.Problem(err) != contract.RedisNoRights:
				t.Errorf("without %s: %v, want a refusal: it is a right too many, or nothing here uses it", without, err)
			}
		})
	}
}

// A tenant who has read everything in its own namespace attacks the others' keys and the server. The name of the victim's
// namespace begins with that of its own. Run with -v for the table.
func TestWhatATenantCanDoToAnother(t *testing.T) {
	t.Parallel()
	r, admin := administered(t)
	f := newFleet(t, admin, nil, "a", "a-b")
	users, _ := f.run(nil)
	victim, attacker := f.url(users, "a-b"), f.url(users, "a")
	b, err := connect(t, victim, nil, "a-b")
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) {
		key, e := newEvent(n)
		if _, err := b.Append(t.Context(), key, e, []string{"crm"}, limits); err != nil {
			t.Fatal(err)
		}
	}
	before := keysOfVictim(r)

	const theirs, own = "hmw:{a-b/support}:", "hmw:{a/support}:"
	queue := theirs + "q:crm:general"
	sha := func(word string) string {
		for _, s := range stream.Scripts() {
			if strings.Contains(s, word) {
				return digest(s)
			}
		}
		t.Fatalf("no script holds %q", word)
		return ""
	}
	const refused = "NOPERM"
	for _, try := range []struct {
		command string
		answer  string // what it begins with
	}{
		// The victim's keys.
		{"XRANGE " + queue + " - +", refused},
		{"XRANGE " + theirs + "dead:crm - +", refused},
		{"XLEN " + queue, refused},
		{"XPENDING " + queue + " receivers", refused},
		{"XREADGROUP GROUP receivers me COUNT 10 STREAMS " + queue + " >", refused},
		{"XINFO CONSUMERS " + queue + " receivers", refused},
		{"HGETALL " + theirs + "account:crm", refused},
		{"GET " + theirs + "d:x", refused},
		{"EXISTS " + queue, refused},
		{"XADD " + queue + " * id evt_forged", refused},
		{"XDEL " + queue + " 1-1", refused},
		{"XTRIM " + queue + " MAXLEN 0", refused},
		{"XGROUP CREATE " + queue + " g 0", refused},
		{"SET " + theirs + "d:x 1", refused},
		{"DEL " + queue, refused},
		{"UNLINK " + own + "x " + queue, refused},
		{"DUMP " + queue, refused},
		{"COPY " + queue + " " + own + "copy", refused},
		{"RENAME " + queue + " " + own + "stolen", refused},
		{"XREAD STREAMS " + queue + " 0", refused},
		{"TYPE " + queue, refused},
		{"OBJECT ENCODING " + queue, refused},
		// Prefixes.
		{"XLEN hmw:{a", refused},
		{"XLEN hmw:{a-", refused},
		{"XLEN hmw:{a-b/", refused},
		{"XLEN hmw:{a*/support}:q:crm:general", refused},
		{"XLEN hmw:a/support}:q:crm:general", refused},
		{"XLEN " + own + "q:crm:general", "0"},
		// Scripts: those of receivers, with the victim's keys as keys and as arguments, and its own.
		{"EVALSHA " + sha("-- Leases events") + " 4 " + queue + " " + theirs + "r " + theirs + "h " + theirs + "p receivers me 10 0 0", refused},
		{"EVALSHA " + sha("-- Records the current targets") + " 1 " + own + "targets " + theirs + " 0 0 " + strconv.FormatInt(time.Now().UnixMilli(), 10) + " x", refused},
		{"EVALSHA " + sha("'SCAN'") + " 1 " + own + "x 0 * 1000", refused},
		{"EVAL return 0", refused},
		{"EVAL_RO return 0", refused},
		{"SCRIPT LOAD return", refused},
		{"SCRIPT FLUSH", refused},
		{"SCRIPT KILL", refused},
		{"SCRIPT EXISTS x", refused},
		{"FUNCTION LOAD x", refused},
		{"FCALL x 0", refused},
		// Names of keys, and how many.
		{"SCAN 0", refused},
		{"KEYS *", refused},
		{"RANDOMKEY", refused},
		{"DBSIZE", refused},
		{"CLUSTER GETKEYSINSLOT 0 10", refused},
		{"SORT " + own + "x GET hmw:{a-b/*", refused},
		// The server.
		{"FLUSHALL", refused},
		{"FLUSHDB", refused},
		{"SWAPDB 0 1", refused},
		{"SELECT 1", refused},
		{"CONFIG GET *", refused},
		{"CONFIG SET maxmemory 1", refused},
		{"CLIENT LIST", refused},
		{"CLIENT KILL TYPE normal", refused},
		{"CLIENT PAUSE 100000", refused},
		{"CLIENT SETNAME x", refused},
		{"MONITOR", refused},
		{"SUBSCRIBE __keyevent@0__:set", refused},
		{"PSUBSCRIBE *", refused},
		{"PUBLISH a b", refused},
		{"DEBUG SLEEP 10", "ERR DEBUG command not allowed"},
		{"WAIT 1 0", refused},
		{"BLPOP " + own + "x 0", refused},
		{"MULTI", refused},
		{"SAVE", refused},
		{"BGREWRITEAOF", refused},
		{"SHUTDOWN NOSAVE", refused},
		{"REPLICAOF 127.0.0.1 1", refused},
		{"MIGRATE 127.0.0.1 1 " + own + "x 0 1", refused},
		{"SLOWLOG GET", refused},
		{"LATENCY HISTORY command", refused},
		{"MEMORY USAGE " + queue, refused},
		{"MODULE LIST", refused},
		{"COMMAND", refused},
		// Users.
		{"ACL LIST", refused},
		{"ACL WHOAMI", refused},
		{"ACL GETUSER default", refused},
		{"ACL SETUSER heymarket.heymarket-system.a ~*", refused},
		{"AUTH heymarket.heymarket-system.a-b x", "WRONGPASS"},
		{"AUTH admin x", "WRONGPASS"},
		// Allowed: totals of the server, without any names.
		{"PING", "PONG"},
		{"TIME", ""},
		{"INFO keyspace", "# Keyspace"},
		{"ROLE", ""},
		{"CLUSTER SLOTS", "ERR This instance has cluster support disabled"},
	} {
		s, err := parse(Server{URL: attacker})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.dial(t.Context(), node{address: r.Addr()})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.one(t.Context(), strings.Fields(try.command)...)
		got := strings.Join(append([]string{answer.text}, answer.texts()...), " ")
		if err != nil {
			got = err.Error()
		}
		_ = c.net.Close()
		got, _, _ = strings.Cut(strings.TrimSpace(got), "\n")
		t.Logf("| %-60.60s | %.90s", try.command, got)
		as := strings.HasPrefix(got, try.answer)
		if try.answer == refused {
			as = denied.MatchString(got)
		}
		if !as || strings.Contains(got, "{a-b/") {
			t.Errorf("%s: answered %q, want %q", try.command, got, try.answer)
		}
	}
	if after := keysOfVictim(r); after != before {
		t.Errorf("the victim's keys have changed from\n%s\nto\n%s", before, after)
	}
	mustLive(t, victim, nil, "a-b")
}

// keysOfVictim are their contents.
func keysOfVictim(r *redistest.Server) string {
	var all []string
	keys := strings.Fields(r.MustDo("--no-raw", "KEYS", "hmw:{a-b/*"))
	slices.Sort(keys)
	all = append(all, keys...)
	for _, k := range []string{"q:crm:general", "dead:crm"} {
		all = append(all, r.MustDo("XRANGE", "hmw:{a-b/support}:"+k, "-", "+"))
	}
	return strings.Join(append(all, r.MustDo("HGETALL", "hmw:{a-b/support}:account:crm")), "\n")
}
