-- Settles a failed attempt: the event stays in its queue, unleased, until its next attempt is due. It remains the head
-- of its conversation.
--
-- KEYS     1 the queue, 2 its retries, see take.lua
-- ARGV     1 group, 2 consumer, 3 entry, 4 number of the next attempt, 5 delay (ms)
-- returns  1 settled, 0 the lease had passed to another consumer, which will settle it
-- error    the event is unchanged
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then
  return 0
end
redis.call('XDEL', KEYS[1], '0-0') -- no such entry: after a command that needs no memory, a full Redis accepts the rest of the script
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[5])
local retry = ARGV[4] .. '/' .. ARGV[3]
attempt('ZADD', KEYS[2], string.format('%.0f', due), retry)
undo[1] = {'ZREM', KEYS[2], retry}
attempt('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
