-- Finds an event by its ID in a queue or among dead letters, see letters.lua.
--
-- KEYS, ARGV  as in letters.lua
-- ARGV        9 the ID of the event
-- returns     {where to continue, the last entry to examine, type, body}, without the last two if it is not on this page
local reply = {'', ''}
reply[1], reply[2] = each_letter(function(_, _, names)
  if names.id == ARGV[9] and not reply[3] then
    reply[3], reply[4] = names.type or '', names.body or ''
  end
end)
return reply
