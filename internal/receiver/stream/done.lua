-- Settles a delivered event: it leaves its queue.
--
-- KEYS[1]  the queue
-- ARGV     1 group, 2 entry
-- returns  1 settled, 0 it was settled before
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[2])
