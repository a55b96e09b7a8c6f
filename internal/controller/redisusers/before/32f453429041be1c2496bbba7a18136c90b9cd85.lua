-- Notes which targets are wanted now, and drops the queues of those that have not been for longer than the grace period.
-- With the last of their dead letters their account goes, and the target is forgotten. Dead letters that are older than
-- they are kept go here, wanted or not: another one, which takes them along as well, may never come.
--
-- KEYS[1]  the hash of targets: name to the time (ms) at which it was last wanted
-- ARGV     1 prefix of the webhook's keys, 2 grace period (ms), 3 how long to keep dead letters (ms), 4.. names wanted now
-- returns  {name, events dropped, ...}
local prefix, grace, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Counts what a removal takes from a target in its account, where there is one. That is read before anything is removed.
local function remove(name, what, removal)
  local account = prefix .. 'account:' .. name
  local before = redis.call('HGET', account, what)
  local n = removal()
  if before and n > 0 then
    redis.call('HSET', account, what, before + n)
  end
  return n
end

local function expire(name)
  remove(name, 'discarded', function()
    return redis.call('XTRIM', prefix .. 'dead:' .. name, 'MINID', string.format('%.0f', now - keep))
  end)
end

local function drop(name)
  local events = remove(name, 'dropped', function()
    local n = 0
    for _, lane in ipairs({'consent', 'general'}) do
      n = n + redis.call('XLEN', prefix .. 'q:' .. name .. ':' .. lane)
      for _, kind in ipairs({'q:', 'r:', 'h:', 'p:'}) do
        redis.call('UNLINK', prefix .. kind .. name .. ':' .. lane)
      end
    end
    return n
  end)
  expire(name)
  local letters = prefix .. 'dead:' .. name
  if redis.call('XLEN', letters) == 0 then
    redis.call('UNLINK', letters, prefix .. 'account:' .. name)
    redis.call('HDEL', KEYS[1], name)
  end
  return events
end

local wanted = {}
for i = 4, #ARGV do
  wanted[ARGV[i]] = true
  redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', now))
end
for name in pairs(wanted) do
  expire(name)
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
