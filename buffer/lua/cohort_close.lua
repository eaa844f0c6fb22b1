-- A server stops: no cohort begins any more, and what collects is READY with what it has.
-- KEYS open; ARGV what stands before a cohort's name in its key. Returns how many cohorts were closed.
-- include cohort_clock
local now, closed = clock(), 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local cohort = ARGV[1] .. name
  if redis.call('HGET', cohort, 'state') == 'collecting' then
    redis.call('HSET', cohort, 'closes', now)
    closed = closed + 1
  end
end
return closed
