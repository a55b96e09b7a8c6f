-- Lists a page of dead letters without their bodies, which do not leave Redis, see letters.lua. Long texts are
-- truncated.
--
-- KEYS, ARGV  as in letters.lua
-- returns     {where to continue, the last entry to examine, {entry, name, value, ...}, ...}
local reply = {'', ''}
local shown = {'id', 'type', 'at', 'replayed', 'attempts', 'status', 'reason', 'excerpt'}
local longest = 1024
reply[1], reply[2] = each_letter(function(entry, _, names)
  local letter = {entry}
  for _, name in ipairs(shown) do
    if names[name] then
      letter[#letter + 1] = name
      letter[#letter + 1] = string.sub(names[name], 1, longest)
    end
  end
  reply[#reply + 1] = letter
end)
return reply
