-- Part of the scripts on dead letters: iterates over those of a target, the oldest first, and calls use(entry, fields,
-- names) for each that matches: fields as Redis returns them, names as a table. One call examines only one page: a page
-- is bounded in entries, so that other clients of Redis do not wait, and in bytes. Letters are read one at a time.
--
-- KEYS[1]  the dead letters of a target, a stream
-- ARGV     1 where to begin: "-", an entry, or "(" and an entry for the one after it
--          2 the last entry to examine; '' means the newest at the time of this call
--          3 type, 4 last status: only letters that have these; '' means any
--          5 how many to use at most
--          6 reason, 7 text: only letters whose reason, or body, contains this; '' means any. ASCII case is ignored
--          8 the latest time (ms) at which a letter may have died; '' means any
-- returns  where to continue, '' at the end; the last entry to examine
local function contains(whole, part)
  return part == '' or string.find(string.lower(whole or ''), string.lower(part), 1, true) ~= nil
end

local function each_letter(use)
  local to, left, entries, bytes = ARGV[2], tonumber(ARGV[5]), 1000, 4 * 1024 * 1024
  if to == '' then
    if redis.call('XLEN', KEYS[1]) == 0 then
      return '', ''
    end
    local info = redis.call('XINFO', 'STREAM', KEYS[1])
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        to = info[i + 1]
      end
    end
  end
  local from = ARGV[1]
  while left > 0 and entries > 0 and bytes > 0 do
    local letter = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)[1]
    if not letter or ARGV[8] ~= '' and tonumber(string.match(letter[1], '^%d+')) > tonumber(ARGV[8]) then
      return '', to
    end
    from = '(' .. letter[1]
    entries = entries - 1
    local fields, names = letter[2], {}
    for i = 1, #fields, 2 do
      names[fields[i]] = fields[i + 1]
      bytes = bytes - #fields[i] - #fields[i + 1]
    end
    if (ARGV[3] == '' or names.type == ARGV[3]) and (ARGV[4] == '' or (tonumber(names.status) or 0) == tonumber(ARGV[4]))
      and contains(names.reason, ARGV[6]) and contains(names.body, ARGV[7]) then
      use(letter[1], fields, names)
      left = left - 1
    end
  end
  return from, to
end

