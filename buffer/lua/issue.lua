-- I2, bounded staleness: a group is issued while |outstanding| < limit = (eta + 1) * B, at the learner's own version.
-- I7: the data cursor moves with the prompt, in this script.
-- KEYS prompts, outstanding, cursor, version, outcomes, request;
-- ARGV seconds to remember, limit, version, then for each offer: group, payload, and the cursor after it (group, epoch,
-- index, skipped). Returns how many were issued, the same number when the client repeats the call.
local WIDTH = 6
local known = redis.call('GET', KEYS[6])
if known then
  return tonumber(known)
end
if tonumber(redis.call('GET', KEYS[4]) or '0') ~= tonumber(ARGV[3]) then
  return 0
end
local expected = redis.call('HGET', KEYS[3], 'group') or '0'
if tonumber(ARGV[4]) ~= tonumber(expected) then
  return redis.error_reply('CURSOR the next group is ' .. expected .. ', not ' .. ARGV[4] ..
    ': start from cursor(); is another driver issuing in this run?')
end
local room = tonumber(ARGV[2]) - redis.call('ZCARD', KEYS[2])
local issued = math.max(0, math.min(room, (#ARGV - 3) / WIDTH))
for i = 0, issued - 1 do
  local at = 4 + i * WIDTH
  redis.call('XADD', KEYS[1], '*', 'g', ARGV[at], 'p', ARGV[at + 1])
  redis.call('ZADD', KEYS[2], ARGV[3], ARGV[at])
end
if issued == 0 then
  return 0
end
local last = 4 + (issued - 1) * WIDTH
for _, field in ipairs({'group', 'epoch', 'index', 'skipped'}) do -- the cursor before this issue
  redis.call('HSET', KEYS[3], 'round_start_' .. field, redis.call('HGET', KEYS[3], field) or '0')
end
redis.call('HSET', KEYS[3], 'group', ARGV[last + 2], 'epoch', ARGV[last + 3], 'index', ARGV[last + 4],
  'skipped', ARGV[last + 5])
redis.call('HINCRBY', KEYS[5], 'issued', issued)
redis.call('SETEX', KEYS[6], ARGV[1], issued)
return issued
