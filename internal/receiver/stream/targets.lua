-- Notes which targets are wanted now, and drops the queues of those that have not been for longer than the grace period.
-- Their dead letters stay for as long as dead letters are kept; with the last of them their account goes, and the target
-- is forgotten.
--
-- KEYS[1]  the hash of targets: name to the time (ms) at which it was last wanted
-- ARGV     1 prefix of the webhook's keys, 2 grace period (ms), 3 how long to keep dead letters (ms), 4.. names wanted now
-- returns  {name, events dropped, ...}
local prefix, grace, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function add(account, what, n)
  local before = n > 0 and redis.call('HGET', account, what)
  if before then
    redis.call('HSET', account, what, before + n)
  end
end

local function drop(name)
  local events = 0
  for _, lane in ipairs({'consent', 'general'}) do
    events = events + redis.call('XLEN', prefix .. 'q:' .. name .. ':' .. lane)
    for _, kind in ipairs({'q:', 'r:', 'h:', 'p:'}) do
      redis.call('UNLINK', prefix .. kind .. name .. ':' .. lane)
    end
  end
  local letters, account = prefix .. 'dead:' .. name, prefix .. 'account:' .. name
  add(account, 'dropped', events)
  add(account, 'discarded', redis.call('XTRIM', letters, 'MINID', string.format('%.0f', now - keep)))
  if redis.call('XLEN', letters) == 0 then
    redis.call('UNLINK', letters, account)
    redis.call('HDEL', KEYS[1], name)
  end
  return events
end

local wanted = {}
for i = 4, #ARGV do
  wanted[ARGV[i]] = true
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', now))
end
local dropped = {}
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  local name = known[i]
  if not wanted[name] and now - tonumber(known[i + 1]) > grace then
    local events = drop(name)
    if events > 0 then
      dropped[#dropped + 1] = name
      dropped[#dropped + 1] = events
    end
  end
end
return dropped
