-- Stores one event for every target that wants it, counts it, and remembers it. In this order: a marker that is set
-- before an XADD that fails would make the sender's retry look like a duplicate of an event that was never stored.
--
-- The account of a target is a hash that the scripts keep in the same step as its queues. At any moment, over all
-- receivers and restarts,
--
--   stored + replayed = delivered + dead + dropped + what is in its queues
--                dead = replayed + discarded + what is among its dead letters
--
-- KEYS[1]    the marker of this event
-- KEYS[2..]  for each target that wants it: its queue, its account
-- ARGV       1 how long to remember (ms), 2 bound of a queue (entries), 3.. the fields of the entry, names and values
-- returns    1 stored, 0 a duplicate, -n the queue of target n is full (nothing is stored)
-- error      nothing is stored, counted or remembered
if redis.call('GET', KEYS[1]) then
  return 0
end
local bound = tonumber(ARGV[2])
for i = 2, #KEYS, 2 do
  if redis.call('XLEN', KEYS[i]) >= bound then
    return -i / 2
  end
end
for i = 2, #KEYS, 2 do
  local entry = attempt('XADD', KEYS[i], '*', unpack(ARGV, 3))
  undo[#undo + 1] = {'XDEL', KEYS[i], entry}
  local stored = attempt('HINCRBY', KEYS[i + 1], 'stored', 1)
  undo[#undo + 1] = {'HINCRBY', KEYS[i + 1], 'stored', -1}
  if stored == 1 then
    -- Receivers of the release before read every field of an account that exists.
    for _, what in ipairs({'replayed', 'delivered', 'dead', 'dropped', 'discarded'}) do
      attempt('HINCRBY', KEYS[i + 1], what, 0)
    end
  end
end
attempt('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
