-- Opens the account of a target that has none. What is there already, from a version that kept no accounts, counts as
-- stored, and the dead letters as dead.
--
-- While such a version is being replaced its receivers still serve the same queues. So an account that did not begin with
-- the target itself is mixed for a while, see accounts.lua.
--
-- KEYS     1 the account, 2 the dead letters, 3.. the queues
-- ARGV     1 how long it may take until no receiver of such a version is left (ms)
-- returns  1 opened, 0 there is one
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local letters = redis.call('XLEN', KEYS[2])
local pending, before = 0, redis.call('EXISTS', KEYS[2])
for i = 3, #KEYS do
  pending = pending + redis.call('XLEN', KEYS[i])
  before = before + redis.call('EXISTS', KEYS[i])
end
redis.call('HSET', KEYS[1], 'stored', pending + letters, 'replayed', 0, 'delivered', 0, 'dead', letters, 'dropped', 0, 'discarded', 0)
if before > 0 then
  redis.call('HSET', KEYS[1], 'mixed_until', string.format('%.0f', redis.call('TIME')[1] * 1000 + tonumber(ARGV[1])))
end
return 1
