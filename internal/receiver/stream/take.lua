-- Leases events of one queue to a consumer: first retries that are due, then what dead consumers held, then new ones.
-- An event stays in its queue until it is settled, so the queue's length is the number of pending events, always.
--
-- KEYS[1]  the queue, a stream
-- KEYS[2]  its retries, a sorted set: "<attempt>/<entry>" by the time (ms) at which that attempt is due
-- ARGV     1 group, 2 consumer, 3 how many, 4 lease (ms), after which a silent consumer counts as dead; 0: do not look
-- returns  {ms until the next retry is due or -1, {entry, attempt, fields}, ...}
local group, consumer = ARGV[1], ARGV[2]
local left, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {-1}

local function take(entry, attempt)
  if entry and entry[2] then -- a deleted entry comes without fields
    reply[#reply + 1] = {entry[1], attempt, entry[2]}
    left = left - 1
  end
end

local due = redis.call('ZRANGE', KEYS[2], '-inf', string.format('%.0f', now), 'BYSCORE', 'LIMIT', 0, left)
for _, member in ipairs(due) do
  local attempt, entry = string.match(member, '^(%d+)/(.+)$')
  local claimed = redis.call('XCLAIM', KEYS[1], group, consumer, 0, entry, 'RETRYCOUNT', attempt, 'FORCE')
  redis.call('ZREM', KEYS[2], member)
  take(claimed[1], tonumber(attempt))
end

if lease > 0 and left > 0 then
  local claimed = redis.call('XAUTOCLAIM', KEYS[1], group, consumer, lease, '0-0', 'COUNT', left)
  for _, entry in ipairs(claimed[2]) do
    local pending = entry and redis.call('XPENDING', KEYS[1], group, entry[1], entry[1], 1)
    take(entry, pending and pending[1] and pending[1][4] or 1)
  end
end

if left > 0 then
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', KEYS[1], '>')
  if read then
    for _, entry in ipairs(read[1][2]) do
      take(entry, 1)
    end
  end
end

local next_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if next_due[2] then
  reply[1] = math.max(0, tonumber(next_due[2]) - now)
end
return reply
