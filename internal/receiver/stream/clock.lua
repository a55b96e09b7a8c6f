-- KEYS[1]  any key of the webhook: in a cluster, it selects the node whose clock is read
-- returns  the time (ms) by the clock of Redis
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
