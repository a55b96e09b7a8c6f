-- Part of the scripts that store more bytes: reports whether a webhook, whose bytes are in a hash as bytes.lua counts them,
-- would have more than bound with this many more of them. A bound of 0 is none.
local function exceeds(key, more, bound)
  bound = tonumber(bound)
  local bytes = more
  if bound > 0 then
    for _, stored_bytes in ipairs(redis.call('HVALS', key)) do
      bytes = bytes + math.max(0, tonumber(stored_bytes) or 0)
    end
  end
  return bound > 0 and bytes > bound
end

