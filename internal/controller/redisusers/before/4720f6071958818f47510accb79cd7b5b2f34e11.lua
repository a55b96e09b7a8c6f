-- Part of the scripts that change how many events there are of a target: they keep its account, a hash, in the same step.
-- At any moment, over all receivers and restarts,
--
--   stored + replayed = delivered + dead + dropped + what is in its queues
--                dead = replayed + discarded + what is among its dead letters
--
-- Not by HINCRBY: an account that is missing has to be opened before anything is counted in it, see open.lua. So what is
-- counted is read before the first write, which is also where an account that cannot be read stops the script.
local function counted(account, what)
  return redis.call('HGET', account, what) or error('NOACCOUNT')
end

-- Part of the scripts that end an event: makes the next parked event of its conversation the head, due at once.
--
-- KEYS  1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua
local function promote(conversation, entry)
  if conversation == '' or redis.call('HGET', KEYS[3], conversation) ~= entry then
    return
  end
  local from, to = '[' .. conversation .. '\0', '[' .. conversation .. '\1'
  while true do
    local parked = redis.call('ZRANGE', KEYS[4], from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
    if not parked then
      redis.call('HDEL', KEYS[3], conversation)
      return
    end
    redis.call('ZREM', KEYS[4], parked)
    local ms, seq = string.match(parked, '(%d+)%-0*(%d+)$')
    local following = ms .. '-' .. seq
    if #redis.call('XRANGE', KEYS[1], following, following) == 1 then
      redis.call('HSET', KEYS[3], conversation, following)
      redis.call('ZADD', KEYS[2], 0, '1/' .. following)
      return
    end
  end
end

-- Settles delivered events: they leave their queue, and the next of their conversations may go.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
-- ARGV     1 group, then for each event: entry, conversation or ''
-- returns  for each event: 1 settled, 0 it was settled before
local delivered = counted(KEYS[5], 'delivered')
local reply, entries, settled = {}, {}, 0
for i = 2, #ARGV, 2 do
  entries[#entries + 1] = ARGV[i]
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
for i = 2, #ARGV, 2 do
  local n = redis.call('XDEL', KEYS[1], ARGV[i])
  promote(ARGV[i + 1], ARGV[i])
  reply[#reply + 1] = n
  settled = settled + n
end
if settled > 0 then
  redis.call('HSET', KEYS[5], 'delivered', delivered + settled)
end
return reply
