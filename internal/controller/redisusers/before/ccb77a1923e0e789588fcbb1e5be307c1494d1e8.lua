-- Part of the scripts that change how many events there are of a target: they keep its account, a hash, in the same step.
-- At any moment, over all receivers and restarts,
--
--   stored + replayed = delivered + dead + dropped + what is in its queues
--                dead = replayed + discarded + what is among its dead letters
--
-- Not by HINCRBY: an account that is missing has to be opened before anything is counted in it, see open.lua. So what is
-- counted is read before the first write, which is also where an account that cannot be read stops the script.
local function counted(account, what)
  return redis.call('HGET', account, what) or error('NOACCOUNT')
end

-- Removes dead letters for good.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the account of the target
-- ARGV     the dead letters
-- returns  how many there were
local discarded = counted(KEYS[2], 'discarded')
local removed = 0
for _, letter in ipairs(ARGV) do
  removed = removed + redis.call('XDEL', KEYS[1], letter)
end
redis.call('HSET', KEYS[2], 'discarded', discarded + removed)
return removed
