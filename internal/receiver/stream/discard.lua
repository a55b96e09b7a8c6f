-- Permanently removes a page of dead letters, see letters.lua.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the account of the target, 3 the bytes of the webhook
-- ARGV     as in letters.lua
-- returns  {where to continue, the last entry to examine, how many were removed}
-- error    each letter is either counted and removed, or unchanged; repeating the call continues
local count = 0
local kept = field('d', KEYS[2])
redis.call('XDEL', KEYS[1], '0-0') -- no such letter: after a command that needs no memory, a full Redis accepts the rest of the script
local from, to = each_letter(function(entry, fields)
  local bytes = bytes_of(fields)
  attempt('HINCRBY', KEYS[2], 'discarded', 1)
  undo[1] = {'HINCRBY', KEYS[2], 'discarded', -1}
  attempt('HINCRBY', KEYS[3], kept, -bytes)
  undo[2] = {'HINCRBY', KEYS[3], kept, bytes}
  attempt('XDEL', KEYS[1], entry)
  undo[1], undo[2] = nil, nil
  count = count + 1
end)
return {from, to, count}
