-- I3: trained entries are acknowledged with the checkpoint that holds them, and only then.
-- KEYS experience, unsaved, incarnation, saved; ARGV consumer group, incarnation, version of the checkpoint, entry ids.
-- include fenced
local refusal = fenced(KEYS[3], ARGV[2])
if refusal then
  return refusal
end
for i = 4, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then -- fields: g, group, p, payload; missing only if this call ran before and the stream was trimmed since
    redis.call('ZREM', KEYS[2], entry[2][2])
  end
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
end
redis.call('SET', KEYS[4], ARGV[3])
return 1
