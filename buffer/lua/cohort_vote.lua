-- LEASED: votes that were given are kept, so that whoever judges next does not pay for them again; and the lease is longer.
-- KEYS cohort; ARGV term, ms of the lease, then for each vote: place, answer.
-- Returns 1, or 0 when the lease was taken over.
-- include cohort_clock
-- include cohort_fence
if not holds(KEYS[1], ARGV[1]) then
  return 0
end
for i = 3, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], 'kept', redis.call('HSETNX', KEYS[1], 'vote:' .. ARGV[i], ARGV[i + 1]))
end
redis.call('HSET', KEYS[1], 'until', clock() + tonumber(ARGV[2]))
return 1
