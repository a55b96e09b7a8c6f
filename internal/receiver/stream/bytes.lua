-- Part of the scripts that store or remove events: counts the bytes that a webhook has in Redis, in one hash with two
-- fields for each target, "q:<target>" for its queues and "d:<target>" for its dead letters. The size of an entry is that
-- of its fields, names and values. Receivers of the previous release do not count, so a field can be wrong until its target
-- has few entries left, see recount in expire_targets.lua; a negative value counts as zero.
local function bytes_of(fields, first)
  local bytes = 0
  for i = first or 1, #fields do
    bytes = bytes + #fields[i]
  end
  return bytes
end

-- Returns the field of the target that has this account.
local function field(kind, account)
  return kind .. string.match(account, '}:account(:.*)$')
end

