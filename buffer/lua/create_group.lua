-- Creates a consumer group that reads from the stream's beginning, and the stream; one that exists is left alone.
-- KEYS stream; ARGV consumer group.
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
  return reply
end
return 1
