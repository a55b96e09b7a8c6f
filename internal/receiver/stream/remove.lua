-- Examines some of the keys of the Redis that holds a webhook, and removes those of the webhook. It is a script so that
-- in a cluster it runs on the node that has these keys.
--
-- KEYS[1]  any key of the webhook
-- ARGV     1 where to continue, "0" to begin, 2 pattern of the webhook's keys, 3 how many keys to examine
-- returns  {where to continue, "0" at the end, how many were removed}
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(page[2]) do
  redis.call('UNLINK', key)
end
return {page[1], #page[2]}
