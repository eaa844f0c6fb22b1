-- KEYS heartbeats; ARGV name, what it says of itself ('' takes its heartbeat away). The server's clock: parts have their own.
if ARGV[2] == '' then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
local now = redis.call('TIME')
return redis.call('HSET', KEYS[1], ARGV[1], now[1] .. string.format('.%06d ', now[2]) .. ARGV[2])
