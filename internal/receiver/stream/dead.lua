-- Settles an event that is given up: moves it to the dead letters with the outcome of its last attempt, and promotes the
-- next event of its conversation. The dead letter is written before the event leaves its queue.
--
-- Dead letters are never evicted. At their limit the event stays in its queue, unleased, and another attempt is due after a
-- while: by then a person may have replayed or discarded some.
--
-- KEYS     1 the queue, 2 its retries, 3 its heads, 4 its parked events, see take.lua; 5 the account of its target
--          6 the dead letters of its target, a stream, 7 the bytes of the webhook, see bytes.lua
-- ARGV     1 group, 2 consumer, 3 entry, 4 conversation or '', 5 attempts made, 6 last status, 7 reason,
--          8 excerpt of the last answer, 9 limit of dead letters, 10 time until the next attempt at the limit (ms),
--          11 the time (ms) by the receiver's clock
-- returns  1 settled, 0 the lease had passed to another consumer, which will settle it, 2 it waits because the limit is
-- reached
-- error    the event is either counted and only among the dead letters, or unchanged; repeating the call finishes the work
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function bury(fields)
  local queued, kept = field('q', KEYS[5]), field('d', KEYS[5])
  local queued_bytes = bytes_of(fields)
  for _, value in ipairs({'attempts', ARGV[5], 'status', ARGV[6], 'reason', ARGV[7], 'excerpt', ARGV[8]}) do
    fields[#fields + 1] = value
  end
  -- Dead letters expire by the time in their entry. If the clock of Redis is behind, that would be too early once it is
  -- corrected, so the receiver's clock is used; that is impossible if an entry is newer.
  local letter
  if tonumber(ARGV[11]) - now > 60000 then
    letter = redis.pcall('XADD', KEYS[6], ARGV[11] .. '-0', unpack(fields))
  end
  if type(letter) ~= 'string' then
    letter = attempt('XADD', KEYS[6], '*', unpack(fields))
  end
  undo[1] = {'XDEL', KEYS[6], letter}
  attempt('HINCRBY', KEYS[5], 'dead', 1)
  undo[2] = {'HINCRBY', KEYS[5], 'dead', -1}
  attempt('HINCRBY', KEYS[7], kept, bytes_of(fields))
  undo[3] = {'HINCRBY', KEYS[7], kept, -bytes_of(fields)}
  attempt('HINCRBY', KEYS[7], queued, -queued_bytes)
  undo[4] = {'HINCRBY', KEYS[7], queued, queued_bytes}
  attempt('XDEL', KEYS[1], ARGV[3])
  undo[1], undo[2], undo[3], undo[4] = nil, nil, nil, nil
end

-- No such entry: without this right no letter could be reverted, so none is written. After a command that needs no memory,
-- a full Redis accepts the rest of the script.
redis.call('XDEL', KEYS[1], '0-0')
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry and redis.call('XLEN', KEYS[6]) >= tonumber(ARGV[9]) then
  local retry = math.max(1, tonumber(ARGV[5])) .. '/' .. ARGV[3]
  attempt('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[10])), retry)
  undo[1] = {'ZREM', KEYS[2], retry}
  attempt('XACK', KEYS[1], ARGV[1], ARGV[3])
  return 2
end
if entry then
  bury(entry[2])
end
promote(ARGV[4], ARGV[3])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
return 1
