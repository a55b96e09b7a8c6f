-- Counts a page of dead letters, see letters.lua.
--
-- KEYS, ARGV  as in letters.lua
-- returns     {where to continue, the last entry to examine, how many match}
local count = 0
local from, to = each_letter(function()
  count = count + 1
end)
return {from, to, count}
