-- Renews the lease of an event whose attempt is still running.
--
-- KEYS[1]  the queue
-- ARGV     1 group, 2 consumer, 3 entry, 4 number of the attempt
-- returns  1 extended, 0 it had been settled, or leased for another attempt, which keeps it
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])[1]
if not held or held[4] ~= tonumber(ARGV[4]) then
  return 0
end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
return 1
