-- KEYS heartbeats; ARGV name of the process, the heartbeat that may be removed ('': whichever there is).
-- A process that stops removes its own: under its name another one may live by now.
if ARGV[2] == '' or redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
