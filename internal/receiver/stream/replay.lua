-- Puts a page of dead letters back into their queues, see letters.lua: first attempt, same id, without deduplication. They
-- keep the time at which they were accepted; the time of the replay, from which their age counts, is stored as well. Each is
-- written to its queue before it leaves the dead letters. A body can be replaced, unless the webhook would exceed its bound of
-- bytes.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the account of the target, 3 its queue of consent, 4 its general queue,
--          5 the bytes of the webhook
-- ARGV     1..8 as in letters.lua, 9 the body that replaces that of each letter, '' to keep it, 10 the webhook's bound of bytes,
--          which applies to replaced bodies only, 0 for none, 11.. the types that are consent
-- returns  {where to continue, the last entry to examine, how many were put back, how many are not events and stay, how many
--          exceed the bound and stay}
-- error    each letter is either counted and only in its queue, or unchanged; repeating the call continues
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local of_the_end = {attempts = true, status = true, reason = true, excerpt = true, replayed = true}
local consent = {}
for i = 11, #ARGV do
  consent[ARGV[i]] = true
end
local most_fields = 64 -- far more than an event has, and fewer than Lua can pass as arguments
redis.call('XDEL', KEYS[1], '0-0') -- no such letter: without this right no replay could be reverted, so none starts
local kept, queued = field('d', KEYS[2]), field('q', KEYS[2])
local body, count, skipped, too_large = ARGV[9], 0, 0, 0
local from, to = each_letter(function(entry, old, names)
  if not (names.id and names.type and names.at and names.body) or #old > most_fields then
    skipped = skipped + 1
    return
  end
  local fields = {}
  for i = 1, #old, 2 do
    if not of_the_end[old[i]] then
      fields[#fields + 1] = old[i]
      fields[#fields + 1] = old[i] == 'body' and body ~= '' and body or old[i + 1]
    end
  end
  fields[#fields + 1] = 'replayed'
  fields[#fields + 1] = now
  local kept_bytes, queued_bytes = bytes_of(old), bytes_of(fields)
  if body ~= '' and queued_bytes > kept_bytes and exceeds(KEYS[5], queued_bytes - kept_bytes, ARGV[10]) then
    too_large = too_large + 1
    return
  end
  local queue = consent[names.type] and KEYS[3] or KEYS[4]
  undo[1] = {'XDEL', queue, attempt('XADD', queue, '*', unpack(fields))}
  attempt('HINCRBY', KEYS[2], 'replayed', 1)
  undo[2] = {'HINCRBY', KEYS[2], 'replayed', -1}
  attempt('HINCRBY', KEYS[5], queued, queued_bytes)
  undo[3] = {'HINCRBY', KEYS[5], queued, -queued_bytes}
  attempt('HINCRBY', KEYS[5], kept, -kept_bytes)
  undo[4] = {'HINCRBY', KEYS[5], kept, kept_bytes}
  attempt('XDEL', KEYS[1], entry)
  undo[1], undo[2], undo[3], undo[4] = nil, nil, nil, nil
  count = count + 1
end)
return {from, to, count, skipped, too_large}
