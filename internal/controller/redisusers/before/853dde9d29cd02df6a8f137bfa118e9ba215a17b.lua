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

-- Puts a dead letter back into its queue, as new: first attempt, age zero, same id. Deduplication is not asked.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the queue, 3 the account of the target
-- ARGV     1 the dead letter
-- returns  1 put back, 0 there is no such dead letter
local replayed = counted(KEYS[3], 'replayed')
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
local time = redis.call('TIME')
local of_the_end = {attempts = true, status = true, reason = true, excerpt = true}
local fields, old = {}, letter[2]
for i = 1, #old, 2 do
  if old[i] == 'at' then
    fields[#fields + 1] = 'at'
    fields[#fields + 1] = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  elseif not of_the_end[old[i]] then
    fields[#fields + 1] = old[i]
    fields[#fields + 1] = old[i + 1]
  end
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[3], 'replayed', replayed + 1)
return 1
