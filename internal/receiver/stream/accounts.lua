-- Reads the accounts of targets, the queue lengths that they must match (see append.lua), and the ages of the oldest entries by
-- the clock of Redis, all at one moment.
--
-- KEYS     1 the bytes of the webhook, see bytes.lua; then for each target: its account, its dead letters, and for each of its
--          two lanes its queue and its retries
-- returns  for each target: stored, replayed, delivered, dead, dropped, discarded, malformed, bytes, pending, dead letters, the
--          age (ms) of its oldest dead letter, the ages (ms) of the oldest event in each lane, -1 if there is none, and the time
--          (ms) until its next retry is due, -1 if there is none, 0 if it is overdue
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function age(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first then
    return -1
  end
  return math.max(now - tonumber(string.match(first[1], '^%d+')), 0)
end

local reply = {}
for i = 2, #KEYS, 6 do
  local counts = redis.call('HMGET', KEYS[i], 'stored', 'replayed', 'delivered', 'dead', 'dropped', 'discarded', 'malformed')
  for _, count in ipairs(counts) do
    reply[#reply + 1] = tonumber(count or 0)
  end
  local bytes = 0
  for _, part in ipairs(redis.call('HMGET', KEYS[1], field('q', KEYS[i]), field('d', KEYS[i]))) do
    bytes = bytes + math.max(0, tonumber(part or 0) or 0)
  end
  reply[#reply + 1] = bytes
  reply[#reply + 1] = redis.call('XLEN', KEYS[i + 2]) + redis.call('XLEN', KEYS[i + 4])
  reply[#reply + 1] = redis.call('XLEN', KEYS[i + 1])
  reply[#reply + 1] = age(KEYS[i + 1])
  local due = -1
  for lane = i + 2, i + 4, 2 do
    reply[#reply + 1] = age(KEYS[lane])
    local next = redis.call('ZRANGE', KEYS[lane + 1], 0, 0, 'WITHSCORES')[2]
    if next then
      local wait = math.max(tonumber(next) - now, 0)
      due = due < 0 and wait or math.min(due, wait)
    end
  end
  reply[#reply + 1] = due
end
return reply
