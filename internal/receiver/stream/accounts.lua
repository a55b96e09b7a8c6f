-- Reads the accounts of targets and what they have to add up to, see append.lua, at one moment.
--
-- KEYS     for each target: its account, its dead letters, its queue in one lane, its queue in the other
-- returns  for each target: stored, replayed, delivered, dead, dropped, discarded, malformed, pending, dead letters
local reply = {}
for i = 1, #KEYS, 4 do
  local counts = redis.call('HMGET', KEYS[i], 'stored', 'replayed', 'delivered', 'dead', 'dropped', 'discarded', 'malformed')
  for _, count in ipairs(counts) do
    reply[#reply + 1] = tonumber(count or 0)
  end
  reply[#reply + 1] = redis.call('XLEN', KEYS[i + 2]) + redis.call('XLEN', KEYS[i + 3])
  reply[#reply + 1] = redis.call('XLEN', KEYS[i + 1])
end
return reply
