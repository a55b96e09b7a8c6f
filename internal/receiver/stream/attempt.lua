-- Part of the scripts that write in several steps. Redis does not roll a script back, so a step that leaves something
-- behind puts the command that takes it back into undo. When a later step fails, the script undoes what it has done and
-- ends with the error of that step.
local undo = {}
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    for i = #undo, 1, -1 do
      redis.pcall(unpack(undo[i]))
    end
    error(redis.REDIS_VERSION and reply or reply.err) -- from Redis 7 on a table keeps the error's code; Redis 6 takes text
  end
  return reply
end

