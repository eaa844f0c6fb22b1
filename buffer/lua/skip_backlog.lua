-- I4: a reader that fell behind skips its oldest unclaimed entries, and they are counted.
-- KEYS experience, outcomes, request; ARGV consumer group, how many, seconds to remember.
local known = redis.call('GET', KEYS[3])
if known then
  return tonumber(known)
end
local left, skipped = tonumber(ARGV[2]), 0
while left > 0 do -- small pages: payloads are read here
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'skipped', 'COUNT', math.min(left, 16), 'NOACK',
    'STREAMS', KEYS[1], '>')
  if not reply then
    break
  end
  left, skipped = left - #reply[1][2], skipped + #reply[1][2]
end
if skipped > 0 then
  redis.call('HINCRBY', KEYS[2], 'skipped', skipped)
end
redis.call('SETEX', KEYS[3], ARGV[3], skipped)
return skipped
