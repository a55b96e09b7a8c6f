-- Settles delivered events: counts them, removes them from their queue, and promotes the next of their conversations.
-- They are counted first, because an event that has left a queue cannot be put back into its place.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target,
--          6 the bytes of the webhook, see bytes.lua
-- ARGV     1 group, then for each event: entry, conversation or '', its bytes
-- returns  for each event: 1 settled, 0 it had been settled before
-- error    an event is either counted and removed from the queue, or neither; repeating the call finishes the work
local reply, entries, settled = {}, {}, 0
local bytes, queued = 0, field('q', KEYS[5])
for i = 2, #ARGV, 3 do
  entries[#entries + 1] = ARGV[i]
  bytes = bytes + ARGV[i + 2]
end
redis.call('XDEL', KEYS[1], '0-0') -- no such entry: after a command that needs no memory, a full Redis accepts the rest of the script
attempt('HINCRBY', KEYS[5], 'delivered', #entries)
undo[1] = {'HINCRBY', KEYS[5], 'delivered', -#entries}
attempt('HINCRBY', KEYS[6], queued, -bytes)
undo[2] = {'HINCRBY', KEYS[6], queued, bytes}
local again = 0
for i, entry in ipairs(entries) do
  reply[i] = attempt('XDEL', KEYS[1], entry) -- all or none: one key, one right
  settled = settled + reply[i]
  if reply[i] == 0 then
    again = again + ARGV[3 * i + 1]
  end
end
undo[1], undo[2] = nil, nil
if settled < #entries then
  redis.call('HINCRBY', KEYS[5], 'delivered', settled - #entries)
  redis.call('HINCRBY', KEYS[6], queued, again)
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
for i = 2, #ARGV, 3 do
  promote(ARGV[i + 1], ARGV[i])
end
return reply
