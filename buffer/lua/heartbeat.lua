-- KEYS heartbeats; ARGV name of the process, its report ('' removes its heartbeat).
-- The time is the server's: each process has a clock of its own.
if ARGV[2] == '' then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
local now = redis.call('TIME')
return redis.call('HSET', KEYS[1], ARGV[1], now[1] .. string.format('.%06d ', now[2]) .. ARGV[2])
