-- Settles an event that is given up: it moves to the dead letters with what is known of its last attempt.
-- The dead letter is written before the event leaves its queue.
--
-- KEYS[1]  the queue
-- KEYS[2]  the dead letters of its target, a stream
-- ARGV     1 group, 2 consumer, 3 entry, 4 attempts made, 5 last status, 6 reason, 7 excerpt of the last answer,
--          8 how many dead letters to keep, 9 how long to keep them (ms)
-- returns  1 settled, 0 the lease had passed to another consumer, which will settle it
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry then
  local fields = entry[2]
  for _, value in ipairs({'attempts', ARGV[4], 'status', ARGV[5], 'reason', ARGV[6], 'excerpt', ARGV[7]}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], '*', unpack(fields))
  local time = redis.call('TIME')
  redis.call('XTRIM', KEYS[2], 'MINID', '~', string.format('%.0f', time[1] * 1000 - tonumber(ARGV[9])))
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('XDEL', KEYS[1], ARGV[3])
return 1
