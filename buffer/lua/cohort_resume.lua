-- A server starts: what collected when the one before it ended collects for as long as at first, since nobody could join
-- meanwhile; and no judge has a lease. KEYS open; ARGV what stands before a cohort's name in its key.
-- Returns how many cohorts were without a verdict.
-- include cohort_clock
local now, found = clock(), 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local cohort = ARGV[1] .. name
  local row = redis.call('HMGET', cohort, 'state', 'born', 'closes')
  if row[1] == 'collecting' then
    redis.call('HSET', cohort, 'born', now, 'closes', now + tonumber(row[3]) - tonumber(row[2]))
  elseif row[1] == 'ready' then
    redis.call('HSET', cohort, 'until', 0)
  end
  found = found + (row[1] and 1 or 0)
end
return found
