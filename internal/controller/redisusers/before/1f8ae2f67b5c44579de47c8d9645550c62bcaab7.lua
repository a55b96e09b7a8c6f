-- Reads the accounts of targets and what they have to add up to, at one moment.
--
-- While an account is mixed, a receiver of a version that keeps none may serve the same queues: what it stored, settled,
-- buried or discarded shows as a difference, and is entered here. After that a difference stays, for people to see.
--
-- KEYS     for each target: its account, its dead letters, its queue in one lane, its queue in the other
-- returns  for each target: stored, replayed, delivered, dead, dropped, discarded, pending, dead letters
local reply = {}
local now = redis.call('TIME')[1] * 1000
for i = 1, #KEYS, 4 do
  local account = {}
  local fields = redis.call('HGETALL', KEYS[i])
  for j = 1, #fields, 2 do
    account[fields[j]] = tonumber(fields[j + 1])
  end
  if not account.stored then
    error('NOACCOUNT')
  end
  local letters = redis.call('XLEN', KEYS[i + 1])
  local pending = redis.call('XLEN', KEYS[i + 2]) + redis.call('XLEN', KEYS[i + 3])

  local function enter(difference, more, less)
    if difference ~= 0 then
      local what = difference > 0 and more or less
      account[what] = account[what] + math.abs(difference)
      redis.call('HSET', KEYS[i], what, account[what])
    end
  end
  if account.mixed_until and now < account.mixed_until then
    enter(account.replayed + account.discarded + letters - account.dead, 'dead', 'discarded')
    enter(account.stored + account.replayed - account.dead - account.dropped - pending - account.delivered, 'delivered', 'stored')
  end
  for _, what in ipairs({'stored', 'replayed', 'delivered', 'dead', 'dropped', 'discarded'}) do
    reply[#reply + 1] = account[what]
  end
  reply[#reply + 1] = pending
  reply[#reply + 1] = letters
end
return reply
