-- I1, one hand-off: XADD destination only if XACK source returned 1. Of two workers that finished one entry, one wins.
-- KEYS source, destination, request; ARGV consumer group, entry id, rollout group, payload, seconds to remember.
-- Returns 1 to the winner, also when its client repeats the call because the first answer was lost; 0 to any other.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 1
end
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('XADD', KEYS[2], '*', 'g', ARGV[3], 'p', ARGV[4])
redis.call('SETEX', KEYS[3], ARGV[5], 1)
return 1
