-- Removes a page of dead letters for good, see letters.lua.
--
-- KEYS     1 the dead letters of a target, a stream, 2 the account of the target
-- ARGV     as in letters.lua
-- returns  {where to go on, the last entry to look at, how many were removed}
-- error    each letter is either counted and gone, or as it was; the same call again goes on
local count = 0
local from, to = each_letter(function(entry)
  attempt('HINCRBY', KEYS[2], 'discarded', 1)
  undo[1] = {'HINCRBY', KEYS[2], 'discarded', -1}
  attempt('XDEL', KEYS[1], entry)
  undo[1] = nil
  count = count + 1
end)
return {from, to, count}
