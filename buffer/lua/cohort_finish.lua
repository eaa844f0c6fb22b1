-- LEASED -> JUDGED: the first verdict stays, and what it was made of goes.
-- KEYS cohort, open; ARGV name of the cohort, term, verdict, seconds to keep.
-- Returns the verdict that counts, or '' when the lease was taken over and there is none.
-- include cohort_fence
local known = redis.call('HGET', KEYS[1], 'verdict')
if known then
  return known
end
if not holds(KEYS[1], ARGV[2]) then
  return ''
end
local made_of = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local kind = string.match(field, '^(%a+):')
  if kind and kind ~= 'is' then
    made_of[#made_of + 1] = field
  end
end
for _, field in ipairs(made_of) do
  redis.call('HDEL', KEYS[1], field)
end
redis.call('HSET', KEYS[1], 'state', 'judged', 'verdict', ARGV[3])
redis.call('HDEL', KEYS[1], 'question')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return ARGV[3]
