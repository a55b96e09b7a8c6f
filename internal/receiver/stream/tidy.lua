-- Removes dead consumers: silent for a long time, and holding no events.
--
-- KEYS[1]  the queue
-- ARGV     1 group, 2 how long a consumer may be silent (ms)
-- returns  OK
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #info, 2 do
    consumer[info[i]] = info[i + 1]
  end
  if consumer.pending == 0 and consumer.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
return 'OK'
