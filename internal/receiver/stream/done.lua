-- Settles a delivered event: it leaves its queue, and the next of its conversation may go.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua
-- ARGV     1 group, 2 entry, 3 conversation or ''
-- returns  1 settled, 0 it was settled before
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
local settled = redis.call('XDEL', KEYS[1], ARGV[2])
promote(ARGV[3], ARGV[2])
return settled
