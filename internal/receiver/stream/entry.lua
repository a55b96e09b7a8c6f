-- Part of the scripts that read a queue and the keys beside it. A person, or another program with the right, can write
-- anything there. Data that a receiver cannot have written is set aside and counted, so that it blocks no delivery: a member
-- that names no entry is removed, and an entry that is not an event becomes a dead letter.
--
-- KEYS  1 the queue, 5 the account of its target

-- Returns the entry of the queue with this id, or nil if there is none or the id is invalid.
local function entry_of(id)
  local found = redis.pcall('XRANGE', KEYS[1], id, id)
  if found.err then
    if string.find(found.err, 'Invalid stream ID', 1, true) then
      return nil
    end
    error(found.err)
  end
  return found[1]
end

local function count_malformed()
  redis.call('HINCRBY', KEYS[5], 'malformed', 1)
end

