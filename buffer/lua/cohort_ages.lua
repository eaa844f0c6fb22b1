-- How old the cohorts are that somebody may wait for. KEYS open; ARGV what stands before a cohort's name in its key.
-- Returns ms of each.
-- include cohort_clock
local now, ages = clock(), {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  local born = redis.call('HGET', ARGV[1] .. name, 'born')
  if born then
    ages[#ages + 1] = now - tonumber(born)
  end
end
return ages
