-- Part of the scripts that end an event: makes the next parked event of its conversation the head, due at once. It
-- is due before it is the head, and the head before it leaves the parked ones: whatever fails in between, promoting again
-- finds it.
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
    local ms, seq = string.match(parked, '(%d+)%-0*(%d+)$')
    local following = ms .. '-' .. seq
    if #redis.call('XRANGE', KEYS[1], following, following) == 1 then
      redis.call('ZADD', KEYS[2], 0, '1/' .. following)
      redis.call('HSET', KEYS[3], conversation, following)
      redis.call('ZREM', KEYS[4], parked)
      return
    end
    redis.call('ZREM', KEYS[4], parked)
  end
end

