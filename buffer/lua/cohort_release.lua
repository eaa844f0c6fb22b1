-- LEASED -> READY: the judge gives the cohort back, with its votes. KEYS cohort; ARGV term. Returns 1, or 0 as in cohort_vote.
-- include cohort_fence
if not holds(KEYS[1], ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'until', 0)
return 1
