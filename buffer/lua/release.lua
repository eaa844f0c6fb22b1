-- Settles rollout groups and acknowledges entries. Only groups that were outstanding are counted, so running twice counts once.
-- KEYS outstanding, outcomes, experience, incarnation;
-- ARGV consumer group, incarnation, outcome, number of rollout groups, the groups, entry ids.
-- include fenced
local refusal = fenced(KEYS[4], ARGV[2])
if refusal then
  return refusal
end
local settled, entries = 0, 5 + tonumber(ARGV[4])
for i = 5, entries - 1 do
  settled = settled + redis.call('ZREM', KEYS[1], ARGV[i])
end
if settled > 0 then
  redis.call('HINCRBY', KEYS[2], ARGV[3], settled)
end
for i = entries, #ARGV do
  redis.call('XACK', KEYS[3], ARGV[1], ARGV[i])
end
return 1
