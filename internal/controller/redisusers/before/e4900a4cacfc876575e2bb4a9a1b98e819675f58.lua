-- Stores one event for every target that wants it, and remembers it. In this order: scripts do not roll back, and a
-- marker that is set before an XADD that fails would make the sender's retry look like a duplicate of an event that was
-- never stored. Whatever can fail comes before the first write.
--
-- KEYS[1]    the marker of this event
-- KEYS[2..]  for each target that wants it: its queue, its account
-- ARGV       1 how long to remember (ms), 2 bound of a queue (entries), 3.. the fields of the entry, names and values
-- returns    1 stored, 0 a duplicate, -n the queue of target n is full (nothing is stored)
-- error      NOACCOUNT where one is missing, see open.lua (nothing is stored)
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local bound = tonumber(ARGV[2])
local stored = {}
for i = 2, #KEYS, 2 do
  if redis.call('XLEN', KEYS[i]) >= bound then
    return -i / 2
  end
  stored[i] = redis.call('HGET', KEYS[i + 1], 'stored') or error('NOACCOUNT')
end
for i = 2, #KEYS, 2 do
  redis.call('HSET', KEYS[i + 1], 'stored', stored[i] + 1)
  redis.call('XADD', KEYS[i], '*', unpack(ARGV, 3))
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
