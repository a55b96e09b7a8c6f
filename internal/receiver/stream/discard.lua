-- Removes dead letters for good.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the account of the target
-- ARGV     the dead letters
-- returns  how many there were
local removed = 0
for _, letter in ipairs(ARGV) do
  removed = removed + redis.call('XDEL', KEYS[1], letter)
end
redis.call('HINCRBY', KEYS[2], 'discarded', removed)
return removed
