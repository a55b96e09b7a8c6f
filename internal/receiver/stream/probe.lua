-- Writes as receivers do, and leaves nothing behind. A replica, a full Redis and one that cannot save reject it.
--
-- KEYS[1]  a key that nothing else uses
redis.call('SET', KEYS[1], '', 'PX', '1000')
redis.call('DEL', KEYS[1])
return 1
