package stream_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"heymarket.dev/operator/internal/receiver/stream"
)

// patch is a mistake in a script, and the test that must notice it.
type patch struct {
	file, mistake    string
	old, replacement string
	check            string // as for go test -run
}

const faults = "TestAFaultAtEveryCommand/"

var patches = []patch{
	{"accounts.lua", "one lane is looked at", "lane = i + 2, i + 4, 2", "lane = i + 2, i + 2, 2", "TestTheOldestOfEachLaneIsKnown"},
	{"accounts.lua", "seconds", "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n\nlocal function age", "local now = time[1] + 0\n\nlocal function age", "TestTheOldestOfEachLaneIsKnown"},
	{"accounts.lua", "the queue of one lane is pending", "redis.call('XLEN', KEYS[i + 2]) + redis.call('XLEN', KEYS[i + 4])", "redis.call('XLEN', KEYS[i + 4])", "TestConsentTravelsInALaneOfItsOwn"},

	{"append.lua", "marker before the event", "local added =", "redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])\nlocal added =", faults + "append.lua"},
	{
		"append.lua", "counted before the event",
		"  local entry = attempt('XADD', KEYS[i], '*', unpack(ARGV, 9))\n  undo[#undo + 1] = {'XDEL', KEYS[i], entry}\n  local n = attempt('HINCRBY', KEYS[i + 1], 'stored', '1')\n",
		"  local n = attempt('HINCRBY', KEYS[i + 1], 'stored', '1')\n  local entry = attempt('XADD', KEYS[i], '*', unpack(ARGV, 9))\n  undo[#undo + 1] = {'XDEL', KEYS[i], entry}\n",
		faults + "append.lua",
	},
	{"append.lua", "the event is not taken back", "  undo[#undo + 1] = {'XDEL', KEYS[i], entry}\n", "", faults + "append.lua"},
	{"append.lua", "the count is not taken back", "  undo[#undo + 1] = {'HINCRBY', KEYS[i + 1], 'stored', -1}\n", "", faults + "append.lua"},
	{"append.lua", "the bytes are not taken back", "  undo[#undo + 1] = {'HINCRBY', KEYS[3], queued, -entry_bytes}\n", "", faults + "append.lua"},
	{"append.lua", "bytes of dead letters", "local queued = field('q', KEYS[i + 1])", "local queued = field('d', KEYS[i + 1])", faults + "append.lua"},
	{"append.lua", "the marker stays for ever", "attempt('SET', KEYS[1], mark, 'PX', ARGV[1])", "attempt('SET', KEYS[1], mark)", "TestAppendForgetsAfterTheWindow"},
	{"append.lua", "the marker stays for seconds", "attempt('SET', KEYS[1], mark, 'PX', ARGV[1])", "attempt('SET', KEYS[1], mark, 'EX', ARGV[1])", "TestAppendForgetsAfterTheWindow"},
	{"append.lua", "the memory stays for ever", "of, 'PX', ARGV[7])", "of)", "TestConsentAfterTheWindowHasAnIDOfItsOwn"},
	{"append.lua", "the marker at the memory", "attempt('SET', KEYS[1], mark", "attempt('SET', KEYS[2], mark", "TestRepeatOrNews"},
	{"append.lua", "seconds", "  now = time[1] * 1000 + math.floor(time[2] / 1000)\nend", "  now = time[1] + 0\nend", "TestAnOptInReturnsAfterTheRetryHorizon"},
	{"append.lua", "one more in a queue", "XLEN', KEYS[i]) >= bound", "XLEN', KEYS[i]) > bound", "TestAppendStoresNothingWhenOneQueueIsFull"},
	{"append.lua", "bytes of one target", "exceeds(KEYS[3], entry_bytes * targets,", "exceeds(KEYS[3], entry_bytes,", "TestTheBoundCountsEveryTarget"},
	{"append.lua", "a state that returned keeps its id", "local another = judgement == 2", "local another = false", "TestRepeatOrNews"},

	{"attempt.lua", "nothing is undone", "redis.pcall(unpack(undo[i]))", "", faults + "append.lua"},
	{"attempt.lua", "an error is none", "    error(redis.REDIS_VERSION and reply or reply.err) --", "    --", faults + "append.lua"},
	{"bound.lua", "bytes without a bound", "and bytes > bound", "and false", "TestBytesOfAWebhookAreBounded"},
	{"bound.lua", "what is stored does not count", "bytes = bytes + math.max(0, tonumber(stored_bytes) or 0)", "", "TestBytesOfAWebhookAreBounded"},
	{"bytes.lua", "fields are counted", "bytes = bytes + #fields[i]", "bytes = bytes + 1", "TestBytesOfAWebhookAreBounded"},
	{"bytes.lua", "one field for all targets", "return kind .. string.match(account, '}:account(:.*)$')", "return kind", faults + "append.lua"},
	{"clock.lua", "seconds", "return time[1] * 1000 + math.floor(time[2] / 1000)", "return time[1] + 0", "TestClockSkew"},
	{"count.lua", "one for each page", "count = count + 1", "count = 1", "TestDeadLettersAreListedReplayedAndDiscarded"},

	{"dead.lua", "the event goes before the letter is written", "  local letter\n", "  redis.call('XDEL', KEYS[1], ARGV[3])\n  local letter\n", faults + "dead.lua"},
	{"dead.lua", "the event stays", "  attempt('XDEL', KEYS[1], ARGV[3])\n", "", faults + "dead.lua"},
	{"dead.lua", "the count is not taken back", "  undo[2] = {'HINCRBY', KEYS[5], 'dead', -1}\n", "  undo[2] = {'EXISTS', KEYS[5]}\n", faults + "dead.lua"},
	{"dead.lua", "the letter is not taken back", "  undo[1] = {'XDEL', KEYS[6], letter}\n", "  undo[1] = {'EXISTS', KEYS[6]}\n", faults + "dead.lua"},
	{"dead.lua", "the event settles before the letter is written", "if entry then\n  bury", "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\nif entry then\n  bury", faults + "dead.lua"},
	{"dead.lua", "one more than the limit", ">= tonumber(ARGV[9])", "> tonumber(ARGV[9])", faults + "dead.lua_at_the_limit"},
	{"dead.lua", "what waits for room stays lent", "  attempt('XACK', KEYS[1], ARGV[1], ARGV[3])\n  return 2", "  return 2", "TestAtTheLimitOfDeadLettersTheQueueWaits"},
	{"dead.lua", "seconds", "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n\nlocal function bury", "local now = time[1] + 0\n\nlocal function bury", "TestAgesAreCountedInMilliseconds"},
	{"dead.lua", "the clock that is behind counts", "if tonumber(ARGV[11]) - now > 60000 then", "if false then", "TestADeadLetterDoesNotAgeByAClockThatIsBehind"},
	{"dead.lua", "the conversation stops", "promote(ARGV[4], ARGV[3])\n", "", faults + "dead.lua"},
	{"dead.lua", "the excerpt is lost", ", 'excerpt', ARGV[8]}", "}", "TestDeadMovesToTheDeadLetters"},
	{"dead.lua", "a lease that has passed on settles", "1, ARGV[2]) == 0 then\n  return 0", "1) == 0 then\n  return 0", "TestWhatADeadConsumerHeldComesBack"},

	{"discard.lua", "gone before it is counted", "  local bytes = bytes_of(fields)\n", "  redis.call('XDEL', KEYS[1], entry)\n  local bytes = bytes_of(fields)\n", faults + "discard.lua"},
	{"discard.lua", "not counted", "  attempt('HINCRBY', KEYS[2], 'discarded', 1)\n", "", faults + "discard.lua"},

	{"done.lua", "gone before it is counted", "attempt('HINCRBY', KEYS[5], 'delivered', #entries)", "redis.call('XDEL', KEYS[1], unpack(entries))\nattempt('HINCRBY', KEYS[5], 'delivered', #entries)", faults + "done.lua"},
	{"done.lua", "the count is not taken back", "undo[1] = {'HINCRBY', KEYS[5], 'delivered', -#entries}", "undo[1] = {'EXISTS', KEYS[5]}", faults + "done.lua"},
	{"done.lua", "counted once more", "if settled < #entries then", "if false then", faults + "done.lua"},
	{"done.lua", "the conversation stops", "  promote(ARGV[i + 1], ARGV[i])\n", "", faults + "done.lua"},
	{"done.lua", "the lease stays", "redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))\n", "", "TestDoneLeavesNothingBehind"},

	{"entry.lua", "what names no entry is an error", "'Invalid stream ID', 1, true) then\n      return nil", "'no such text', 1, true) then\n      return nil", "TestGarbageInRedisStopsNoDelivery"},
	{"entry.lua", "what is malformed is not counted", "redis.call('HINCRBY', KEYS[5], 'malformed', 1)", "", "TestGarbageInRedisStopsNoDelivery"},

	{"expire_targets.lua", "no grace", "> grace then", "> 0 then", "TestATargetThatIsGoneKeepsItsBacklogForAWhile"},
	{"expire_targets.lua", "dropped and not counted", "      attempt('HINCRBY', prefix .. 'account:' .. name, 'dropped', n)\n", "", faults + "expire_targets.lua"},
	{"expire_targets.lua", "dropped and counted later", "    if n > 0 then\n", "    redis.call('UNLINK', prefix .. 'q:' .. suffix)\n    if n > 0 then\n", faults + "expire_targets.lua"},
	{"expire_targets.lua", "any clock", "<= 60000", ">= 0", "TestNothingExpiresWhileClocksDisagree"},
	{"expire_targets.lua", "letters expire at once", "now - keep)", "now)", "TestDeadLettersEndWithTheirTime"},
	{"expire_targets.lua", "letters go before they are counted", "    local bytes = bytes_of(letter[2])\n", "    redis.call('XDEL', letters, letter[1])\n    local bytes = bytes_of(letter[2])\n", faults + "expire_targets.lua_of_old_letters"},
	{"expire_targets.lua", "bytes are not counted afresh", "  recount(name)\n", "", "TestBytesThatWereNotCountedAreCountedAfresh"},
	{"expire_targets.lua", "the account goes before its letters", "if redis.call('XLEN', letters) == 0 then", "if true then", faults + "expire_targets.lua"},

	{"extend.lua", "another attempt is robbed", "if not held or held[4] ~= tonumber(ARGV[4]) then", "if not held then", "TestALeaseIsExtendedByItsHolderAlone"},
	{"extend.lua", "nothing is extended", "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')", "", "TestALeaseIsExtendedByItsHolderAlone"},
	{"find.lua", "any event", "names.id == ARGV[9] and", "", "TestAnEventIsFoundWhileItIsStored"},
	{"group.lua", "new events alone", "ARGV[1], '0', 'MKSTREAM'", "ARGV[1], '$', 'MKSTREAM'", "TestAGroupThatIsGoneIsMadeAgain"},
	{"group.lua", "what was set aside stays", "redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])\n", "", "TestAGroupThatIsGoneIsMadeAgain"},

	{"later.lua", "seconds", "local due = time[1] * 1000 + math.floor(time[2] / 1000)", "local due = time[1] + 0", "TestLaterComesBackWithItsAttempt"},
	{"later.lua", "the first attempt again", "local retry = ARGV[4] .. '/'", "local retry = '1/'", "TestLaterComesBackWithItsAttempt"},
	{"later.lua", "the lease goes before the retry is noted", "attempt('ZADD'", "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\nattempt('ZADD'", faults + "later.lua"},
	{"later.lua", "the retry is not taken back", "undo[1] = {'ZREM', KEYS[2], retry}\n", "", faults + "later.lua"},

	{"letters.lua", "any status", "(tonumber(names.status) or 0) == tonumber(ARGV[4])", "true", "TestWhichDeadLettersAFilterDescribes"},
	{"letters.lua", "a page of everything", "tonumber(ARGV[5]), 1000, 4 * 1024 * 1024", "tonumber(ARGV[5]), 1000000, 4 * 1024 * 1024 * 1024", "TestReplayAndDiscardGoByPages"},
	{"letters.lua", "one letter again and again", "from = '(' .. letter[1]", "from = letter[1]", "TestDeadLettersAreListedReplayedAndDiscarded"},
	{"letters.lua", "what died since as well", "to = info[i + 1]", "to = '+'", "TestReplayAndDiscardGoByPages"},
	{"list.lua", "the body leaves Redis", "'reason', 'excerpt'}", "'reason', 'excerpt', 'body'}", "TestDeadLettersAreListedReplayedAndDiscarded"},
	{"list.lua", "long texts", "1, longest)", "1)", "TestDeadLettersThatAreNoEvents"},
	{"probe.lua", "nothing is written", "redis.call('SET', KEYS[1], '', 'PX', '1000')\nredis.call('DEL', KEYS[1])", "redis.call('GET', KEYS[1])", "TestCheckNamesEveryProblem"},

	{"promote.lua", "the parked event goes first", "      redis.call('ZADD', KEYS[2], 0, '1/' .. following)\n", "      redis.call('ZREM', KEYS[4], parked)\n      redis.call('ZADD', KEYS[2], 0, '1/' .. following)\n", faults + "done.lua"},
	{"promote.lua", "the head before it is due", "      redis.call('ZADD', KEYS[2], 0, '1/' .. following)\n      redis.call('HSET', KEYS[3], conversation, following)\n", "      redis.call('HSET', KEYS[3], conversation, following)\n      redis.call('ZADD', KEYS[2], 0, '1/' .. following)\n", faults + "done.lua"},
	{"promote.lua", "the new head stays parked", "      redis.call('ZREM', KEYS[4], parked)\n      return\n", "      return\n", "TestAConversationGoesOneAtATime"},
	{"remove.lua", "keys stay", "  redis.call('UNLINK', key)\n", "", "TestRemove"},

	{"replay.lua", "an edited body is not used", "body ~= '' and body or old[i + 1]", "false or old[i + 1]", "TestAnEditedLetterIsReplayed"},
	{"replay.lua", "an edited body is every field", "old[i] == 'body' and body ~= ''", "body ~= ''", "TestAnEditedLetterIsReplayed"},
	{"replay.lua", "an edited body counts as the old one", "bytes_of(old), bytes_of(fields)", "bytes_of(old), bytes_of(old)", faults + "replay.lua_with_an_edited_body"},
	{"replay.lua", "an edited body has no bound", "exceeds(KEYS[5], queued_bytes - kept_bytes, ARGV[10])", "false", "TestAnEditedLetterRespectsTheBound"},
	{"replay.lua", "a smaller body needs room", "and queued_bytes > kept_bytes and", "and", "TestAnEditedLetterRespectsTheBound"},
	{"replay.lua", "an edited body needs room beside its letter", "queued_bytes - kept_bytes, ARGV[10]", "queued_bytes, ARGV[10]", "TestAnEditedLetterRespectsTheBound"},
	{"replay.lua", "the letter goes before the event is written", "  local queue = consent", "  redis.call('XDEL', KEYS[1], entry)\n  local queue = consent", faults + "replay.lua"},
	{"replay.lua", "the event is not taken back", "undo[1] = {'XDEL', queue, attempt('XADD', queue, '*', unpack(fields))}", "attempt('XADD', queue, '*', unpack(fields))\n  undo[1] = {'EXISTS', queue}", faults + "replay.lua"},
	{"replay.lua", "one lane", "KEYS[3] or KEYS[4]", "KEYS[4] or KEYS[4]", "TestAReplayGoesIntoItsLane"},
	{"replay.lua", "the time of acceptance is lost", "replayed = true}", "replayed = true, at = true}", "TestAReplayKeepsTheTimeOfAcceptance"},
	{"replay.lua", "seconds", "time[1] * 1000 + math.floor(time[2] / 1000))\nlocal of_the_end", "time[1] + 0)\nlocal of_the_end", "TestAReplayKeepsTheTimeOfAcceptance"},
	{"replay.lua", "what is no event as well", "if not (names.id and names.type and names.at and names.body) or #old > most_fields then", "if false then", "TestDeadLettersThatAreNoEvents"},

	{"take.lua", "no padding", "string.rep('0', 20 - #seq) .. seq", "seq", "TestParkedEventsOfOneMillisecondKeepTheirOrder"},
	{"take.lua", "seconds", "local now = time[1] * 1000 + math.floor(time[2] / 1000)\nlocal reply", "local now = time[1] + 0\nlocal reply", "TestLaterComesBackWithItsAttempt"},
	{"take.lua", "no head", "    redis.call('HSET', heads, name, entry[1])\n", "", "TestAConversationGoesOneAtATime"},
	{"take.lua", "a parked event keeps its lease", "seq)\n    redis.call('XACK', queue, group, entry[1])\n", "seq)\n", "TestAConversationGoesOneAtATime"},
	{"take.lua", "retries wait for a clock that was set back", "  if back > 1000 then\n", "  if false then\n", "TestRetriesFollowTheClockOfRedis"},
	{"take.lua", "bytes without a bound", "    if bytes <= 0 then\n", "    if false then\n", "TestTakeIsBoundedInBytes"},
	{"take.lua", "the living are robbed", "group, consumer, lease, from", "group, consumer, 0, from", "TestWhatADeadConsumerHeldComesBack"},
	{"take.lua", "nothing of the dead comes back", "while lease > 0 and left > 0 do", "while false do", "TestWhatADeadConsumerHeldComesBack"},
	{"take.lua", "a retry stays and comes again", "  if claimed then\n    redis.call('ZREM', retries, member)\n", "  if claimed then\n", "TestLaterComesBackWithItsAttempt"},
	{"take.lua", "a conversation without a head stops", "if ordered then\n  free_a_conversation()\nend\n", "", "TestGarbageInRedisStopsNoDelivery"},
	{"take.lua", "what is no event is delivered", "  if not is_event(entry) then\n", "  if false then\n", "TestGarbageInRedisStopsNoDelivery"},
	{"take.lua", "bytes of what is set aside are not counted", "  redis.call('HINCRBY', KEYS[8], field('d', KEYS[5]), bytes_of(fields))\n", "", "TestGarbageInRedisStopsNoDelivery"},

	{"take.lua", "retries without a bound", "  if left <= 0 then\n    break\n", "  if left < 0 then\n    break\n", "TestTakeIsBoundedInBytes"},
	{"take.lua", "what is set aside is not counted as dead", "  redis.call('HINCRBY', KEYS[5], 'dead', 1)\n", "", "TestGarbageInRedisStopsNoDelivery"},
	{"take.lua", "conversations are looked at once", "\n    or redis.call('ZRANGE', parked, 0, 0)[1]", " or not checked and redis.call('ZRANGE', parked, 0, 0)[1]", "TestGarbageInRedisStopsNoDelivery"},

	{"tidy.lua", "who holds something", "consumer.pending == 0 and", "", "TestTidyRemovesOnlyWhoHoldsNothing"},
	{"tidy.lua", "who was just here", "and consumer.idle > tonumber(ARGV[2])", "", "TestTidyRemovesOnlyWhoHoldsNothing"},
}

const patchVariable = "HEYMARKET_PATCH"

// mistake is the one that this process runs with, nil for none.
func mistake() *patch {
	i, err := strconv.Atoi(os.Getenv(patchVariable))
	if err != nil {
		return nil
	}
	return &patches[i]
}

// patched is the text of a file with the mistake of this process.
func patched(file, text string) string {
	if p := mistake(); p != nil && p.file == file {
		return strings.Replace(text, p.old, p.replacement, 1)
	}
	return text
}

// TestMain applies the mistake that a test in another process must notice.
func TestMain(m *testing.M) {
	if p := mistake(); p != nil && stream.PatchScripts(p.old, p.replacement) == 0 {
		fmt.Println("no script has what the patch replaces:", p.old)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// The checks of scripts fail for each of these mistakes: a guard that only a long run notices by chance is not
// one.
func TestMistakesInScriptsAreNoticed(t *testing.T) {
	t.Parallel()
	if mistake() != nil {
		t.Skip("this process is one with a mistake")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for i, p := range patches {
		tried[p.file] = true
		t.Run(p.file+"/"+p.mistake, func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(p.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), p.old); n != 1 {
				t.Fatalf("%s has what the patch replaces %d times, want once", p.file, n)
			}
			check := exec.CommandContext(t.Context(), self, "-test.run=^"+strings.ReplaceAll(p.check, "/", "$/^")+"$")
			check.Env = append(os.Environ(), patchVariable+"="+strconv.Itoa(i))
			out, err := check.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: ") {
				t.Errorf("%s does not notice it: %v\n%s", p.check, err, out)
			}
		})
	}
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts", err)
	}
	for _, file := range files {
		if !tried[file] {
			t.Errorf("%s has no patch: write down a mistake in it, and the test that notices", file)
		}
	}
}
