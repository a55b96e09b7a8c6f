package stream_test

import (
	cmpor "cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"heymarket.dev/operator/internal/receiver/delivery"
	"heymarket.dev/operator/internal/receiver/event"
	"heymarket.dev/operator/internal/receiver/redistest"
	"heymarket.dev/operator/internal/receiver/stream"
)

// scriptRow is a script under test: TestAFaultAtEveryCommand lets each of its commands fail, and each of its keys hold a
// value of another type, one at a time, and holds the state that is left against what the head of the script promises.
type scriptRow struct {
	// name distinguishes rows of one script; empty: the first of files.
	name string
	// files are the script and the parts that it is made of; their commands are found in the source.
	files []string
	// keys are those that the script reads or writes, without the prefix of the webhook.
	keys []string
	// prepare brings the webhook into the state that the script begins with.
	prepare func(t *testing.T, s *stream.Store)
	// run runs the script once.
	run func(t *testing.T, s *stream.Store) error
	// promise returns what is wrong with the state after a run that met the fault and ended with err. That the accounts add
	// up is held for every script.
	promise func(before, after state, err error) string
	// finally returns what is wrong with the state after the fault is gone and the script has run once more. A fault that the
	// script survived leaves a run that repeats the first.
	finally func(before, after state) string
}

// state is everything that Redis holds of the webhook: key, without the prefix, to content. Streams are lists of the
// names and values of their entries, without the entries' own ids. What is empty or counts nothing is left out.
type state map[string]any

// readState is a script, so that it reads one moment.
const readState = `
local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', key).ok, nil
  if kind == 'stream' then
    value = {}
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do value[#value + 1] = entry[2] end
  elseif kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
      if fields[i + 1] ~= '0' then value = value or {}; value[fields[i]] = fields[i + 1] end
    end
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1)
  else
    value = redis.call('GET', key)
  end
  if value and (type(value) == 'string' or next(value)) then
    out[string.match(key, '}:(.*)$')] = value
  end
end
return next(out) and cjson.encode(out) or '{}'`

func stateOf(t *testing.T, r *redistest.Server) state {
	t.Helper()
	var s state
	if err := json.Unmarshal([]byte(r.MustDo("EVAL", readState, "0")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// entries returns how many entries a stream or a sorted set has.
func (s state) entries(key string) int {
	list, _ := s[key].([]any)
	return len(list)
}

// count returns what a field of a target's account has counted.
func (s state) count(target, what string) string {
	account, _ := s["account:"+target].(map[string]any)
	n, _ := account[what].(string)
	return n
}

// uncounted returns what is wrong with the bytes that are counted for each target, or "".
func (s state) uncounted() string {
	stored, counted := map[string]int{}, map[string]int{}
	for key, value := range s {
		entries, _ := value.([]any)
		kind, name, _ := strings.Cut(key, ":")
		name, _, _ = strings.Cut(name, ":")
		switch kind {
		case "q":
		case "dead":
			kind = "d"
		default:
			continue
		}
		for _, entry := range entries {
			for _, text := range entry.([]any) {
				stored[kind+":"+name] += len(text.(string))
			}
		}
	}
	fields, _ := s["bytes"].(map[string]any)
	for part, bytes := range fields {
		counted[part], _ = strconv.Atoi(bytes.(string))
	}
	if diff := cmp.Diff(stored, counted); diff != "" {
		return "bytes (-stored +counted):\n" + diff
	}
	return ""
}

var commandOf = regexp.MustCompile(`(?:call|attempt)\('([A-Z]+)'`)

func commands(t *testing.T, files []string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range commandOf.FindAllSubmatch(source, -1) {
			found[string(match[1])] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func TestAFaultAtEveryCommand(t *testing.T) {
	t.Parallel()
	for _, row := range scriptRows() {
		t.Run(cmpor.Or(row.name, row.files[0]), func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t, "--appendonly", "no")
			admin := connect(t, r, "a")
			r.MustDo("ACL", "SETUSER", "limited", "on", "nopass", "~*", "&*", "+@all")
			limited := stream.New("staging", "support", "a")
			if err := limited.Connect(t.Context(), strings.Replace(r.URL(), "redis://", "redis://limited:x@", 1), nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(limited.Close)
			try := func(name string, fault, repair func()) {
				t.Run(name, func(t *testing.T) {
					r.MustDo("FLUSHALL")
					row.prepare(t, admin)
					before := stateOf(t, r)
					fault()
					err := row.run(t, limited)
					repair()
					after := stateOf(t, r)
					if wrong := row.promise(before, after, err); wrong != "" {
						t.Errorf("after the fault (%v): %s", err, wrong)
					}
					account(t, admin, target)
					if wrong := after.uncounted(); wrong != "" {
						t.Errorf("after the fault (%v): %s", err, wrong)
					}
					if err := row.run(t, limited); err != nil {
						t.Fatalf("without the fault: %v", err)
					}
					end := stateOf(t, r)
					if wrong := row.finally(before, end) + end.uncounted(); wrong != "" {
						t.Errorf("after the fault was gone: %s", wrong)
					}
					account(t, admin, target)
				})
			}
			for _, command := range commands(t, row.files) {
				try("no right to "+command,
					func() { r.MustDo("ACL", "SETUSER", "limited", "-"+command) },
					func() { r.MustDo("ACL", "SETUSER", "limited", "+"+command) })
			}
			for _, name := range row.keys {
				key := "hmw:{staging/support}:" + name
				held := false
				try("another type at "+name,
					func() {
						held = r.MustDo("EXISTS", key) == "1"
						if held {
							r.MustDo("RENAME", key, "hmw:{staging/support}:kept")
						}
						r.MustDo("LPUSH", key, "in the way")
					},
					func() {
						r.MustDo("DEL", key)
						if held {
							r.MustDo("RENAME", "hmw:{staging/support}:kept", key)
						}
					})
			}
		})
	}
}

// scriptRows are the scripts that TestAFaultAtEveryCommand tries.
func scriptRows() []scriptRow {
	return append([]scriptRow{appendRow(false), appendRow(true), doneRow(), accountsRow()}, queueRows()...)
}

// appendRow stores an opt-out: the first of its recipient, or one that returns after an opt-in.
func appendRow(returns bool) scriptRow {
	_, e := newEvent(1)
	optOut, optIn := event.Key([]byte("sixteen letters.")), event.Key([]byte("16 other letters")) // for a command line
	id := event.Identity{Key: optOut, State: optOut, Rule: event.OptOut, Subject: event.Key([]byte("of one recipient"))}
	stored := 1
	if returns {
		stored = 3
	}
	storedOnce := func(_, after state) string {
		for _, name := range []string{target, "audit"} {
			if n, counted := after.entries("q:"+name+":general"), after.count(name, "stored"); n != stored || counted != fmt.Sprint(stored) {
				return fmt.Sprintf("%s has %d events in its queue and %s counted, want %d", name, n, counted, stored)
			}
		}
		return ""
	}
	run := func(t *testing.T, s *stream.Store) error {
		t.Helper()
		_, err := s.Append(t.Context(), id, e, []string{target, "audit"}, limits)
		return err
	}
	return scriptRow{
		files: []string{"append.lua", "bound.lua", "bytes.lua", "attempt.lua"},
		keys: []string{
			"d:" + string(optOut[:]), "s:" + string(id.Subject[:]), "q:crm:general", "bytes", "account:crm", "q:audit:general", "account:audit",
		},
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			if !returns {
				return
			}
			between := event.Identity{Key: optIn, State: optIn, Rule: event.OptIn, Subject: id.Subject}
			if err := run(t, s); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(t.Context(), between, e, []string{target, "audit"}, limits); err != nil {
				t.Fatal(err)
			}
		},
		run: run,
		promise: func(before, after state, err error) string {
			if err == nil {
				return storedOnce(before, after)
			}
			return cmp.Diff(before, after)
		},
		finally: storedOnce,
	}
}

func doneRow() scriptRow {
	var held []delivery.Lease
	return scriptRow{
		files: []string{"done.lua", "bytes.lua", "promote.lua", "entry.lua", "attempt.lua"},
		keys:  []string{"q:crm:general", "r:crm:general", "h:crm:general", "p:crm:general", "account:crm", "bytes"},
		prepare: func(t *testing.T, s *stream.Store) {
			t.Helper()
			for n := range 3 {
				key, e := newEvent(n)
				e.Conversation = "7"
				if _, err := s.Append(t.Context(), key, e, []string{target}, limits); err != nil {
					t.Fatal(err)
				}
			}
			if held = take(t, s.Queue(target, delivery.General, ordered), 3, 0); len(held) != 1 {
				t.Fatalf("%d events are lent, want the head of the conversation", len(held))
			}
		},
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.Queue(target, delivery.General, ordered).Done(t.Context(), held[0])
			return err
		},
		promise: func(_, after state, _ error) string {
			// Counted and removed, or neither: the counts must add up.
			if n := after.entries("q:crm:general"); n < 2 || n > 3 {
				return "the queue lost an event that was not delivered"
			}
			return ""
		},
		finally: func(_, after state) string {
			switch {
			case after.entries("q:crm:general") != 2 || after.count(target, "delivered") != "1":
				return "the event is not settled once"
			case after.entries("r:crm:general") != 1:
				return "the next event of the conversation is not due"
			}
			return ""
		},
	}
}

func accountsRow() scriptRow {
	return scriptRow{
		files:   []string{"accounts.lua", "bytes.lua"},
		keys:    []string{"bytes", "account:crm", "dead:crm", "q:crm:general", "q:crm:consent"},
		prepare: func(t *testing.T, s *stream.Store) { t.Helper(); appendTo(t, s, 1, target) },
		run: func(t *testing.T, s *stream.Store) error {
			t.Helper()
			_, err := s.Accounts(t.Context(), []string{target})
			return err
		},
		promise: func(before, after state, err error) string {
			if err == nil {
				return "the account was read in spite of it"
			}
			return cmp.Diff(before, after)
		},
		finally: func(before, after state) string { return cmp.Diff(before, after) },
	}
}
