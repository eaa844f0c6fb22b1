-- KEYS heartbeats; ARGV name of the process, its report. Returns the heartbeat as it is kept.
-- The time is the server's: each process has a clock of its own.
local now = redis.call('TIME')
local heartbeat = now[1] .. string.format('.%06d ', now[2]) .. ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], heartbeat)
return heartbeat
