-- Leases events of one queue to a consumer: first retries that are due, then what dead consumers held, then new ones.
-- An event stays in its queue until it is settled, so the queue's length is the number of pending events, always.
--
-- Where the target wants an order, one event of each conversation at a time is its head: leased, or waiting for a retry.
-- Later ones of that conversation are parked, without a lease, until settling the head promotes the next.
--
-- KEYS[1]  the queue, a stream
-- KEYS[2]  its retries, a sorted set: "<attempt>/<entry>" by the time (ms) at which that attempt is due
-- KEYS[3]  its heads, a hash: conversation to entry
-- KEYS[4]  its parked events, a sorted set of "<conversation>\0<padded entry>", in the order of those bytes
-- ARGV     1 group, 2 consumer, 3 how many, 4 lease (ms), after which a silent consumer counts as dead; 0: do not look,
--          5 "1" where the target wants an order
-- returns  {ms until the next retry is due or -1, {entry, attempt, fields}, ...}
local queue, retries, heads, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, consumer = ARGV[1], ARGV[2]
local left, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local ordered = ARGV[5] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {-1}

local function take(entry, attempt)
  if entry and entry[2] then -- a deleted entry comes without fields
    reply[#reply + 1] = {entry[1], attempt, entry[2]}
    left = left - 1
  end
end

local function conversation(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'conversation' then
      return fields[i + 1]
    end
  end
end

-- Parks an event whose conversation has another head, or makes it the head.
local function must_wait(entry)
  local name = conversation(entry[2])
  if not name then
    return false
  end
  local head = redis.call('HGET', heads, name)
  if head and head ~= entry[1] and #redis.call('XRANGE', queue, head, head) == 1 then
    local ms, seq = string.match(entry[1], '^(%d+)-(%d+)$')
    redis.call('ZADD', parked, 0, name .. '\0' .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq)
    redis.call('XACK', queue, group, entry[1])
    return true
  end
  redis.call('HSET', heads, name, entry[1])
  return false
end

local due = redis.call('ZRANGE', retries, '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, left)
for _, member in ipairs(due) do
  local attempt, entry = string.match(member, '^(%d+)/(.+)$')
  local claimed = redis.call('XCLAIM', queue, group, consumer, 0, entry, 'RETRYCOUNT', attempt, 'FORCE')
  redis.call('ZREM', retries, member)
  take(claimed[1], tonumber(attempt))
end

if lease > 0 and left > 0 then
  local claimed = redis.call('XAUTOCLAIM', queue, group, consumer, lease, '0-0', 'COUNT', left)
  for _, entry in ipairs(claimed[2]) do
    local pending = entry and redis.call('XPENDING', queue, group, entry[1], entry[1], 1)
    take(entry, pending and pending[1] and pending[1][4] or 1)
  end
end

-- Parked events leave room for more. The bound keeps one call short however long a conversation has grown; what is left
-- comes with the next call, at once.
local read_at_most = left + 1000
while left > 0 and read_at_most > 0 do
  local wanted = left
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', wanted, 'STREAMS', queue, '>')
  if not read then
    break
  end
  local entries = read[1][2]
  for _, entry in ipairs(entries) do
    if not (ordered and must_wait(entry)) then
      take(entry, 1)
    end
  end
  read_at_most = read_at_most - #entries
  if #entries < wanted then
    break
  end
end

local next_due = redis.call('ZRANGE', retries, 0, 0, 'WITHSCORES')
if read_at_most <= 0 then
  reply[1] = 0
elseif next_due[2] then
  reply[1] = math.max(0, tonumber(next_due[2]) - now)
end
return reply
