-- Records the current targets, and drops the queues of targets that have been removed for longer than the grace period. Together
-- with the last of its dead letters, a removed target's account is deleted and the target is forgotten. Expired dead letters are
-- removed here, for removed targets as well, some at a time. While the clocks of Redis and the receiver differ by more than a
-- minute, nothing expires: one of them is wrong.
--
-- KEYS[1]  the hash of targets: name to the time (ms) at which it was last current
-- KEYS[2]  the bytes of the webhook, see bytes.lua
-- ARGV     1 prefix of the webhook's keys, 2 grace period (ms), 3 how long to keep dead letters (ms), 4 the time (ms) by the
--          receiver's clock, 5.. names of the current targets
-- returns  {name, events dropped, ...}
-- error    every removal is counted; repeating the call continues
local prefix, grace, keep, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local agreed = math.abs(time[1] * 1000 + math.floor(time[2] / 1000) - now) <= 60000

local function expire(name)
  local letters, account = prefix .. 'dead:' .. name, prefix .. 'account:' .. name
  local oldest = string.format('%.0f', now - keep)
  for _ = 1, 1000 do
    local letter = redis.call('XRANGE', letters, '-', '(' .. oldest, 'COUNT', 1)[1]
    if not letter then
      return
    end
    local bytes = bytes_of(letter[2])
    attempt('HINCRBY', account, 'discarded', 1)
    undo[1] = {'HINCRBY', account, 'discarded', -1}
    attempt('HINCRBY', KEYS[2], 'd:' .. name, -bytes)
    undo[2] = {'HINCRBY', KEYS[2], 'd:' .. name, bytes}
    attempt('XDEL', letters, letter[1])
    undo[1], undo[2] = nil, nil
  end
end

-- Counts the bytes of streams with few entries; nil if they have many.
local function count_bytes(streams)
  local bytes, entries = 0, 0
  for _, stream in ipairs(streams) do
    local from = '-'
    while true do
      local entry = redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1]
      if not entry then
        break
      end
      bytes, entries, from = bytes + bytes_of(entry[2]), entries + 1, '(' .. entry[1]
      if entries > 100 or bytes > 1048576 then
        return nil
      end
    end
  end
  return bytes
end

local function recount(name)
  for part, streams in pairs({
    ['q:' .. name] = {prefix .. 'q:' .. name .. ':consent', prefix .. 'q:' .. name .. ':general'},
    ['d:' .. name] = {prefix .. 'dead:' .. name},
  }) do
    local bytes = count_bytes(streams)
    if bytes and bytes ~= tonumber(redis.call('HGET', KEYS[2], part) or 0) then
      redis.call('HSET', KEYS[2], part, bytes)
    end
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
      undo[1] = nil -- the queue is removed first
    end
    events = events + n
  end
  redis.call('HDEL', KEYS[2], 'q:' .. name)
  expire(name)
  local letters = prefix .. 'dead:' .. name
  if redis.call('XLEN', letters) == 0 then
    redis.call('HDEL', KEYS[2], 'd:' .. name)
    redis.call('UNLINK', letters, prefix .. 'account:' .. name)
    redis.call('HDEL', KEYS[1], name)
  end
  return events
end

redis.call('HDEL', KEYS[1], '') -- no such target: after a command that needs no memory, a full Redis accepts the rest of the script
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
  recount(name)
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
