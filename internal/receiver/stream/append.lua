-- Deduplicates one delivery: stores a new event for every target that accepts it, counts it, and remembers it. The order matters:
-- a marker set before a failing XADD would make the sender's retry look like a duplicate of an event that was never stored.
--
-- The marker records that an event was stored, not whether the delivery repeats that event or reports a state that has returned
-- (opt-out, opt-in, opt-out). For that, the memory of a subject holds its last stored state. docs/ordering.md has the table of
-- cases.
--
-- The account of a target is a hash that the scripts update atomically with its queues. At any moment, over all receivers and
-- restarts,
--
--   stored + replayed = delivered + dead + dropped + the events in its queues
--                dead = replayed + discarded + the entries in its dead letters
--
-- KEYS[1]    the marker of this event: its time of update, which takes no more memory in Redis than a "1", and those of each
--            stored return; for consent "<number in its subject> <stored at, ms>"; "1" if there is neither, and from receivers of
--            the previous release
-- KEYS[2]    the memory of its subject: "<events stored> <number of the last opt-out> <updated> <state>", the last two from the
--            newest event; not used with the rule any
-- KEYS[3]    the bytes of the webhook, see bytes.lua
-- KEYS[4..]  for each target that accepts it: its queue, its account
-- ARGV       1 how long the marker is kept (ms), 2 bound of a queue (entries), 3 rule: any, last, opt-out or opt-in, see
--            event.Rule, 4 state, 5 updated (any unit, 0 if unknown), 6 how long the sender may retry (ms), 7 how long the memory
--            is kept (ms), 8 bound of the bytes of the webhook, 0 for no bound, 9.. the fields of the entry, names and values;
--            the id is the first
-- returns    1 stored, 2 stored although the same event was stored before: its state has returned, 0 a repeat, 3 a late repeat, 4
--            an opt-in that may be a repeat from before an opt-out, -n the queue of target n is full, -n - 1 with n targets: the
--            webhook has reached its bound of bytes; {1 or 2, id} if the event was stored under another id than the given one
-- error      nothing is stored, counted or remembered
local known = redis.call('GET', KEYS[1])
local rule, state, updated = ARGV[3], ARGV[4], tonumber(ARGV[5])
local consent = rule == 'opt-out' or rule == 'opt-in'
local memory = rule ~= 'any' and redis.call('GET', KEYS[2])
local stored, opted_out, newest, last = string.match(memory or '', '^(%d+) (%d+) (%d+) (.*)$')
stored, opted_out = tonumber(stored or 0), tonumber(opted_out or 0)
local older = updated > 0 and updated < tonumber(newest or 0)
local now = 0
if consent then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function judge()
  if not known then
    return 1
  elseif not memory then -- from receivers of the previous release: whether an opt-in followed is unknown
    return rule == 'opt-out' and 2 or 0
  elseif last == state then
    return 0
  end
  local number, at = string.match(known, '^(%d+) (%d+)$')
  if rule == 'opt-in' and tonumber(number or 0) < opted_out and (not at or now - at < tonumber(ARGV[6])) then
    return 4
  elseif older and string.find(' ' .. known .. ' ', ' ' .. ARGV[5] .. ' ', 1, true) then
    return 3 -- only a stored time: any other belongs to an event that has not been stored
  end
  return 2
end

-- Returns an id like event.Key.ID, derived from the event's key and its number in the subject, so that it is the same if Redis
-- loses this write and the sender repeats it.
local function other_id()
  local digest = redis.sha1hex(string.sub(KEYS[1], -16) .. ' ' .. stored + 1)
  local letters, id, value, bits = 'abcdefghijklmnopqrstuvwxyz234567', 'evt_', 0, 0
  for i = 1, 33 do -- 128 bits, and four zero bits that complete the last letter
    value, bits = value * 16 + (i < 33 and tonumber(string.sub(digest, i, i), 16) or 0), bits + 4
    if bits >= 5 then
      bits = bits - 5
      local letter = math.floor(value / 2 ^ bits)
      value = value - letter * 2 ^ bits
      id = id .. string.sub(letters, letter + 1, letter + 1)
    end
  end
  return id
end

local times = 340 -- characters in a marker: about twenty times in microseconds
local judgement = judge()
if judgement ~= 1 and judgement ~= 2 then
  return judgement
end
local bound = tonumber(ARGV[2])
for i = 4, #KEYS, 2 do
  if redis.call('XLEN', KEYS[i]) >= bound then
    return -(i - 2) / 2
  end
end
local entry_bytes, targets = bytes_of(ARGV, 9), (#KEYS - 3) / 2
if exceeds(KEYS[3], entry_bytes * targets, ARGV[8]) then
  return -targets - 1
end

-- Consent may return after months. By then the marker has expired, so the memory decides about the id.
local another = judgement == 2 or (consent and memory)
if another then
  ARGV[10] = other_id()
end
local added = string.format('%d', entry_bytes) -- Redis formats numbers from Lua as fractions, which is slower
for i = 4, #KEYS, 2 do
  local entry = attempt('XADD', KEYS[i], '*', unpack(ARGV, 9))
  undo[#undo + 1] = {'XDEL', KEYS[i], entry}
  local n = attempt('HINCRBY', KEYS[i + 1], 'stored', '1')
  undo[#undo + 1] = {'HINCRBY', KEYS[i + 1], 'stored', -1}
  local queued = field('q', KEYS[i + 1])
  attempt('HINCRBY', KEYS[3], queued, added)
  undo[#undo + 1] = {'HINCRBY', KEYS[3], queued, -entry_bytes}
  if n == 1 then
    -- Receivers of the previous release read every field of an existing account.
    for _, what in ipairs({'replayed', 'delivered', 'dead', 'dropped', 'discarded'}) do
      attempt('HINCRBY', KEYS[i + 1], what, 0)
    end
  end
end
local mark = updated > 0 and ARGV[5] or '1'
if judgement == 2 and updated > 0 and not consent then
  mark = string.sub(known .. ' ' .. mark, -times) -- a truncated time matches none
end
if rule ~= 'any' then
  local number = stored + 1
  if consent then
    mark = number .. ' ' .. string.format('%.0f', now)
  end
  if rule == 'opt-out' then
    opted_out = number
  end
  local of = older and newest .. ' ' .. last or (updated > 0 and ARGV[5] or newest or '0') .. ' ' .. state
  attempt('SET', KEYS[2], number .. ' ' .. opted_out .. ' ' .. of, 'PX', ARGV[7])
  undo[#undo + 1] = memory and {'SET', KEYS[2], memory, 'PX', ARGV[7]} or {'DEL', KEYS[2]}
end
attempt('SET', KEYS[1], mark, 'PX', ARGV[1])
return another and {judgement, ARGV[10]} or judgement
