-- Settles delivered events: they leave their queue, and the next of their conversations may go.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
-- ARGV     1 group, then for each event: entry, conversation or ''
-- returns  for each event: 1 settled, 0 it was settled before
local delivered = counted(KEYS[5], 'delivered')
local reply, entries, settled = {}, {}, 0
for i = 2, #ARGV, 2 do
  entries[#entries + 1] = ARGV[i]
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(entries))
for i = 2, #ARGV, 2 do
  local n = redis.call('XDEL', KEYS[1], ARGV[i])
  promote(ARGV[i + 1], ARGV[i])
  reply[#reply + 1] = n
  settled = settled + n
end
if settled > 0 then
  redis.call('HSET', KEYS[5], 'delivered', delivered + settled)
end
return reply
