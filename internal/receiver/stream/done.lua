-- Settles delivered events: they are counted and leave their queue, and the next of their conversations may go. They are
-- counted first, because what has left a queue cannot be put back into its place.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
-- ARGV     1 group, then for each event: entry, conversation or ''
-- returns  for each event: 1 settled, 0 it was settled before
-- error    an event is either counted and gone from the queue, or neither; the same call again finishes what was begun
local reply, entries, settled = {}, {}, 0
for i = 2, #ARGV, 2 do
  entries[#entries + 1] = ARGV[i]
end
attempt('HINCRBY', KEYS[5], 'delivered', #entries)
undo[1] = {'HINCRBY', KEYS[5], 'delivered', -#entries}
for i, entry in ipairs(entries) do
  reply[i] = attempt('XDEL', KEYS[1], entry) -- all of them or none: one key, one right
  settled = settled + reply[i]
end
undo[1] = nil
if settled < #entries then
  redis.call('HINCRBY', KEYS[5], 'delivered', settled - #entries)
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
for i = 2, #ARGV, 2 do
  promote(ARGV[i + 1], ARGV[i])
end
return reply
