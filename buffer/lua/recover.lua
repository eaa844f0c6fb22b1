-- I3: back to a checkpoint. The entries that it lists are trained and acknowledged; groups trained since are outstanding again.
-- Returns the number of this incarnation of the learner, and its version; calls of earlier incarnations are refused from now
-- on (a fence). The version is the checkpoint's, but never older than the last that was acknowledged: when a newer checkpoint
-- is lost, only its gradient is lost, and prompts that were issued at its version can still be sampled.
-- KEYS version, outstanding, unsaved, outcomes, experience, incarnation, saved;
-- ARGV consumer group, version, number of trained entries, their ids, then pairs of regained group and its u.
local trained, pairs_at = 0, 4 + tonumber(ARGV[3])

local accounted = {}
for i = 4, pairs_at - 1 do
  local entry = redis.call('XRANGE', KEYS[5], ARGV[i], ARGV[i])[1]
  accounted[entry and entry[2][2] or ''] = true -- fields: g, group, p, payload
end
for i = pairs_at, #ARGV, 2 do
  accounted[ARGV[i]] = true
end
for _, group in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if not accounted[group] then
    return redis.error_reply('RECOVER group ' .. group .. ' was trained and is neither in the checkpoint nor regained: ' ..
      'pass what own_pending() returns under the same consumer name (I3)')
  end
end

for i = 4, pairs_at - 1 do
  local entry = redis.call('XRANGE', KEYS[5], ARGV[i], ARGV[i])[1]
  if entry then
    local group = entry[2][2]
    trained = trained + redis.call('ZREM', KEYS[2], group) -- saved before the version advanced
    redis.call('ZREM', KEYS[3], group)
  end
  redis.call('XACK', KEYS[5], ARGV[1], ARGV[i])
end
for i = pairs_at, #ARGV, 2 do
  if redis.call('ZREM', KEYS[3], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i])
    trained = trained - 1
  end
end
if trained ~= 0 then
  redis.call('HINCRBY', KEYS[4], 'trained', trained)
end
local version = math.max(tonumber(ARGV[2]), tonumber(redis.call('GET', KEYS[7]) or '0'))
redis.call('SET', KEYS[1], version)
redis.call('SET', KEYS[7], version)
return {redis.call('INCR', KEYS[6]), version}
