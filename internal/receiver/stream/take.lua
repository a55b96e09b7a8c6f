-- Leases events of one queue to a consumer: first retries that are due, then events of dead consumers, then new ones. An
-- event stays in its queue until it is settled, so the length of the queue is always the number of pending events.
--
-- If the target is ordered, one event of each conversation at a time is its head: leased, or waiting for a retry. Later ones
-- of that conversation are parked, without a lease, until settling the head promotes the next.
--
-- KEYS[1]  the queue, a stream
-- KEYS[2]  its retries, a sorted set: "<attempt>/<entry>" by the time (ms) at which that attempt is due
-- KEYS[3]  its heads, a hash: conversation to entry
-- KEYS[4]  its parked events, a sorted set of "<conversation>\0<padded entry>", in the order of those bytes
-- KEYS[5]  the account of its target
-- KEYS[6]  the dead letters of its target, for entries that are not events, see entry.lua
-- KEYS[7]  notes, a hash: "time" of Redis's clock (ms) at an earlier take, "checked" the conversation that was examined last
-- KEYS[8]  the bytes of the webhook, see bytes.lua
-- ARGV     1 group, 2 consumer, 3 how many, 4 lease (ms), after which a silent consumer counts as dead; 0: do not check, 5
--          "1" if the target is ordered, 6 how many bytes of bodies, which the last one may exceed
-- returns  {ms until the next retry is due or -1, {entry, attempt, fields}, ...}
-- error    events leased by then become due again when the lease expires
local queue, retries, heads, parked, letters, notes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6], KEYS[7]
local group, consumer = ARGV[1], ARGV[2]
local left, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local ordered, bytes = ARGV[5] == '1', tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {-1}

-- A clock that is set back would delay retries by the same amount, so they are moved along with it. The noted time may lag
-- by a minute, which is harmless and saves Redis a write at each take.
local function follow_clock()
  local noted = tonumber(redis.call('HGET', notes, 'time') or '') or 0
  local back = noted - now
  if back > 1000 then
    local waiting = redis.call('ZRANGE', retries, 0, -1, 'WITHSCORES')
    for i = 1, #waiting, 2 do
      redis.call('ZADD', retries, 'XX', string.format('%.0f', waiting[i + 1] - back), waiting[i])
    end
  end
  if back > 1000 or back < -60000 then
    redis.call('HSET', notes, 'time', string.format('%.0f', now))
  end
end

local function named(fields)
  local names = {}
  for i = 1, #fields, 2 do
    names[fields[i]] = fields[i + 1]
  end
  return names
end

-- An entry that is not an event becomes a dead letter. It has more fields than can be passed on, or lacks some.
local function set_aside(entry)
  local fields = {}
  for i = 1, math.min(#entry[2], 64) do
    fields[i] = entry[2][i]
  end
  for _, value in ipairs({'attempts', '0', 'status', '0', 'reason', 'Redis holds an entry that is not an event of a receiver'}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', letters, '*', unpack(fields))
  redis.call('HINCRBY', KEYS[5], 'dead', 1)
  redis.call('HINCRBY', KEYS[8], field('d', KEYS[5]), bytes_of(fields))
  count_malformed()
  redis.call('XDEL', queue, entry[1])
  redis.call('XACK', queue, group, entry[1])
end

local function is_event(entry)
  local names = named(entry[2])
  return #entry[2] <= 64 and names.id and names.type and names.body and string.match(names.at or '', '^-?%d+$')
end

-- Parks an event whose conversation has another head, or makes it the head.
local function must_wait(entry)
  local name = named(entry[2]).conversation
  if not name then
    return false
  end
  local head = redis.call('HGET', heads, name)
  if head and head ~= entry[1] and entry_of(head) then
    local ms, seq = string.match(entry[1], '^(%d+)-(%d+)$')
    redis.call('ZADD', parked, 0, name .. '\0' .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq)
    redis.call('XACK', queue, group, entry[1])
    return true
  end
  if head ~= entry[1] then
    if head and not string.match(head, '^%d+%-%d+$') then
      count_malformed()
    end
    redis.call('HSET', heads, name, entry[1])
  end
  return false
end

local function take(entry, attempt)
  if not (entry and entry[2]) then -- a deleted entry has no fields
    return
  end
  if not is_event(entry) then
    set_aside(entry)
  elseif not (ordered and must_wait(entry)) then
    reply[#reply + 1] = {entry[1], attempt, entry[2]}
    left, bytes = left - 1, bytes - #named(entry[2]).body
    if bytes <= 0 then
      left = 0
    end
  end
end

-- How many entries to lease at once: every leased entry must be returned, so large ones are leased one by one. They are
-- expected to be as large as the previous ones.
local lent_bytes, lent_before = bytes, left
local function at_once()
  local lent = lent_before - left
  if lent == 0 then
    return 1
  end
  local average = math.max(1, (lent_bytes - bytes) / lent)
  return math.max(1, math.min(left, math.floor(bytes / average)))
end

-- Leases the entry that a retry names and returns it with its attempt; nil if the member is invalid.
local function claim(member)
  local attempt, id = string.match(member, '^(%d+)/(%d+%-%d+)$')
  if not attempt or #attempt > 9 or #id > 41 then
    return nil
  end
  local claimed = redis.pcall('XCLAIM', queue, group, consumer, 0, id, 'RETRYCOUNT', attempt, 'FORCE')
  if not claimed.err then
    return claimed, tonumber(attempt)
  end
  if not string.find(claimed.err, 'Invalid stream ID', 1, true) and not string.find(claimed.err, 'XCLAIM option', 1, true) then
    error(claimed.err)
  end
end

-- A conversation with a missing head would otherwise wait until its next event. Each call checks one that has parked events.
local function free_a_conversation()
  local checked = redis.call('HGET', notes, 'checked')
  local member = checked and redis.call('ZRANGE', parked, '(' .. checked .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGE', parked, 0, 0)[1]
  if not member then
    return
  end
  local name = string.match(member, '^(.*)%z%d+%-%d+$')
  if not name then
    redis.call('ZREM', parked, member)
    return count_malformed()
  end
  redis.call('HSET', notes, 'checked', name)
  local head = redis.call('HGET', heads, name)
  if not (head and entry_of(head)) then
    if head and not string.match(head, '^%d+%-%d+$') then
      count_malformed()
    end
    promote_next(name)
  end
end

follow_clock()
if ordered then
  free_a_conversation()
end

local due = redis.call('ZRANGE', retries, '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, left)
for _, member in ipairs(due) do
  if left <= 0 then
    break
  end
  local claimed, attempt = claim(member)
  if claimed then
    redis.call('ZREM', retries, member)
    take(claimed[1], attempt)
  else
    redis.call('ZREM', retries, member)
    count_malformed()
  end
end

local from = '0-0'
while lease > 0 and left > 0 do
  local claimed = redis.call('XAUTOCLAIM', queue, group, consumer, lease, from, 'COUNT', at_once())
  for _, entry in ipairs(claimed[2]) do
    local pending = entry and redis.call('XPENDING', queue, group, entry[1], entry[1], 1)
    take(entry, pending and pending[1] and pending[1][4] or 1)
  end
  from = claimed[1]
  if from == '0-0' then
    break
  end
end

-- Parked events leave room for more. The bound keeps one call short even for a long conversation; the next call, which
-- follows at once, leases the rest.
local read_at_most = left + 1000
while left > 0 and read_at_most > 0 do
  local wanted = at_once()
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', queue, '>')
  if not read then
    break
  end
  local entries = read[1][2]
  for _, entry in ipairs(entries) do
    take(entry, 1)
  end
  read_at_most = read_at_most - #entries
  if #entries < wanted then
    break
  end
end

local next_due = redis.call('ZRANGE', retries, 0, 0, 'WITHSCORES')
if read_at_most <= 0 or bytes <= 0 then -- there may be more
  reply[1] = 0
elseif next_due[2] then
  reply[1] = math.min(math.max(0, tonumber(next_due[2]) - now), 86400000)
end
return reply
