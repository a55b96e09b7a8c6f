-- Creates the consumer group of a queue if it is missing: at the first event, or after Redis lost it. A new group reads
-- the queue from its beginning, so the old group's retries and parked events are dropped: they would only be delivered
-- twice.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua
-- ARGV     1 group
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then
    return 0
  end
  return made
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return 1
