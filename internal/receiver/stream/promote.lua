-- Part of the scripts that settle an event for good: makes the next parked event of its conversation the head, due at
-- once. It becomes due before it becomes the head, and becomes the head before it leaves the parked events: after a
-- failure in between, promoting again still finds it.
--
-- KEYS  1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
local function promote_next(conversation)
  local from, to = '[' .. conversation .. '\0', '[' .. conversation .. '\1'
  while true do
    local parked = redis.call('ZRANGE', KEYS[4], from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
    if not parked then
      redis.call('HDEL', KEYS[3], conversation)
      return
    end
    local ms, seq = string.match(parked, '%z(%d+)%-0*(%d+)$')
    local following = ms and ms .. '-' .. seq
    if not following then
      count_malformed()
    elseif entry_of(following) then
      redis.call('ZADD', KEYS[2], 0, '1/' .. following)
      redis.call('HSET', KEYS[3], conversation, following)
      redis.call('ZREM', KEYS[4], parked)
      return
    end
    redis.call('ZREM', KEYS[4], parked)
  end
end

local function promote(conversation, entry)
  if conversation ~= '' and redis.call('HGET', KEYS[3], conversation) == entry then
    promote_next(conversation)
  end
end

