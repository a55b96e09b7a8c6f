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

-- Settles an event that is given up: it moves to the dead letters with what is known of its last attempt, and the next
-- of its conversation may go. The dead letter is written before the event leaves its queue.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
--          6 the dead letters of its target, a stream
-- ARGV     1 group, 2 consumer, 3 entry, 4 conversation or '', 5 attempts made, 6 last status, 7 reason,
--          8 excerpt of the last answer, 9 how many dead letters to keep, 10 how long to keep them (ms)
-- returns  1 settled, 0 the lease had passed to another consumer, which will settle it
local dead, discarded = counted(KEYS[5], 'dead'), counted(KEYS[5], 'discarded')
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry then
  local fields = entry[2]
  for _, value in ipairs({'attempts', ARGV[5], 'status', ARGV[6], 'reason', ARGV[7], 'excerpt', ARGV[8]}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', KEYS[6], '*', unpack(fields))
  local oldest = redis.call('TIME')[1] * 1000 - tonumber(ARGV[10])
  local trimmed = redis.call('XTRIM', KEYS[6], 'MAXLEN', '~', ARGV[9])
    + redis.call('XTRIM', KEYS[6], 'MINID', '~', string.format('%.0f', oldest))
  redis.call('HSET', KEYS[5], 'dead', dead + 1, 'discarded', discarded + trimmed)
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
promote(ARGV[4], ARGV[3])
return 1
