-- KEYS version, outstanding, unsaved, outcomes, incarnation; ARGV incarnation, version, trained groups.
-- Version v + 1 is trained, and on its way to the workers: its groups leave 'outstanding' for 'unsaved', where they stay
-- until a checkpoint holds them. A second run of the same call finds the version there and the groups gone, and changes nothing.
-- include fenced
local refusal = fenced(KEYS[5], ARGV[1])
if refusal then
  return refusal
end
local now, version = tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[2])
local again = version == now
if not again and version ~= now + 1 then
  return redis.error_reply('VERSION the version is ' .. now .. ', so the next is not ' .. ARGV[2])
end
local from = again and KEYS[3] or KEYS[2]
for i = 3, #ARGV do
  if not redis.call('ZSCORE', from, ARGV[i]) then
    return redis.error_reply('TRAINED group ' .. ARGV[i] .. ' is not outstanding: it would be trained twice (I3)')
  end
end
if again then
  return 1
end
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[2], ARGV[i]), ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
redis.call('HINCRBY', KEYS[4], 'trained', #ARGV - 2)
redis.call('SET', KEYS[1], ARGV[2])
return 1
