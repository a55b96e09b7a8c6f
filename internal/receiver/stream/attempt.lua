-- Part of the scripts that write in several steps. Redis does not roll a script back, so each step adds the command
-- that reverts it to undo. When a later step fails, the script reverts the earlier ones and returns that step's error.
local undo = {}
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    for i = #undo, 1, -1 do
      redis.pcall(unpack(undo[i]))
    end
    error(redis.REDIS_VERSION and reply or reply.err) -- from Redis 7 on a table keeps the error's code; Redis 6 needs text
  end
  return reply
end

