-- KEYS stream; ARGV consumer group. Creates both, from the stream's beginning; a group that exists is left alone.
local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply.err and not string.find(reply.err, 'BUSYGROUP', 1, true) then
  return reply
end
return 1
