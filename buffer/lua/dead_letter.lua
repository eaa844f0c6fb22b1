-- Moves an entry that cannot be used to the dead letters, once, and settles its rollout group so that the credit refills.
-- KEYS source, dead letters, request, outstanding, outcomes;
-- ARGV consumer group, entry id, rollout group or '', payload, reason, source name, outcome, seconds to remember, how many
-- dead letters are kept. All are counted, by their source, in the outcomes.
-- Returns 1 to the client that moved it (also when it repeats the call), 0 to any other. outcome 'skipped': the consumer
-- group only reads along, so the stream's other consumer group still needs the entry and decides the outcome.
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 1
end
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[9], '*', 'stream', ARGV[6], 'id', ARGV[2], 'g', ARGV[3], 'reason', ARGV[5],
  'p', ARGV[4])
redis.call('HINCRBY', KEYS[5], 'dead:' .. ARGV[6], 1)
if ARGV[7] == 'skipped' then
  redis.call('HINCRBY', KEYS[5], 'skipped', 1)
elseif ARGV[3] ~= '' and redis.call('ZREM', KEYS[4], ARGV[3]) == 1 then
  redis.call('HINCRBY', KEYS[5], ARGV[7], 1)
end
if ARGV[6] ~= 'experience' then -- it has two readers: trimmed when both are past the entry (I4)
  redis.call('XDEL', KEYS[1], ARGV[2])
end
redis.call('SETEX', KEYS[3], ARGV[8], 1)
return 1
