-- Notes which targets are wanted now, and drops the queues of those that have not been for longer than the grace period.
-- With the last of their dead letters their account goes, and the target is forgotten. Dead letters that are older than
-- they are kept expire here, wanted or not. While the clocks of Redis and the receiver disagree by more than a minute,
-- nothing is old: one of them is wrong about it.
--
-- KEYS[1]  the hash of targets: name to the time (ms) at which it was last wanted
-- ARGV     1 prefix of the webhook's keys, 2 grace period (ms), 3 how long to keep dead letters (ms),
--          4 the time (ms) by the receiver's clock, 5.. names wanted now
-- returns  {name, events dropped, ...}
-- error    what is removed is counted; the same call again goes on
local prefix, grace, keep, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local agreed = math.abs(time[1] * 1000 + math.floor(time[2] / 1000) - now) <= 60000

local function expire(name)
  local letters, account = prefix .. 'dead:' .. name, prefix .. 'account:' .. name
  local oldest = string.format('%.0f', now - keep)
  if #redis.call('XRANGE', letters, '-', '(' .. oldest, 'COUNT', 1) > 0 then
    redis.call('HINCRBY', account, 'discarded', 0) -- without the right to count them, none is removed
    redis.call('HINCRBY', account, 'discarded', redis.call('XTRIM', letters, 'MINID', oldest))
  end
end

local function drop(name)
  local events = 0
  for _, lane in ipairs({'consent', 'general'}) do
    local suffix = name .. ':' .. lane
    local n = redis.call('XLEN', prefix .. 'q:' .. suffix)
    if n > 0 then
      attempt('HINCRBY', prefix .. 'account:' .. name, 'dropped', n)
      undo[1] = {'HINCRBY', prefix .. 'account:' .. name, 'dropped', -n}
    end
    for _, kind in ipairs({'q:', 'r:', 'h:', 'p:', 'c:'}) do
      attempt('UNLINK', prefix .. kind .. suffix)
      undo[1] = nil -- the queue is the first to go
    end
    events = events + n
  end
  expire(name)
  local letters = prefix .. 'dead:' .. name
  if redis.call('XLEN', letters) == 0 then
    redis.call('UNLINK', letters, prefix .. 'account:' .. name)
    redis.call('HDEL', KEYS[1], name)
  end
  return events
end

local wanted = {}
for i = 5, #ARGV do
  wanted[ARGV[i]] = true
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', now))
end
local dropped = {}
if not agreed then
  return dropped
end
for name in pairs(wanted) do
  expire(name)
end
local known = redis.call('HGETALL', KEYS[1])
for i = 1, #known, 2 do
  local name = known[i]
  if not wanted[name] and now - (tonumber(known[i + 1]) or now) > grace then
    local events = drop(name)
    if events > 0 then
      dropped[#dropped + 1] = name
      dropped[#dropped + 1] = events
    end
  end
end
return dropped
