-- The place of a response in a group whose members name no slots: the attempt that is open, and the next free slot there. A
-- response that was seated before keeps its place, also when the call is repeated. Places are forgotten between one and two
-- spans after they were given: those of the span before are kept under a key of their own, so a group that is never idle
-- does not grow.
-- KEYS group, the same a span ago; ARGV digest of the response, size of a cohort, seconds of a span, an attempt that takes nobody
-- any more or ''.
-- Returns {attempt, slot}.
-- include cohort_clock
local at, size, keep_s, closed = 'at:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()
local row = redis.call('HMGET', KEYS[1], 'attempt', 'taken', 'since')
local attempt, taken, since = tonumber(row[1] or '0'), tonumber(row[2] or '0'), tonumber(row[3] or now)
if now - since > keep_s * 1000 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('EXPIRE', KEYS[2], keep_s)
  since = now
end
for i = 1, 2 do
  local old, slot = string.match(redis.call('HGET', KEYS[i], at) or '', '^(%d+) (%d+)$')
  if old and tonumber(old) ~= closed then
    redis.call('HSET', KEYS[1], 'attempt', attempt, 'taken', taken, 'since', since)
    redis.call('EXPIRE', KEYS[1], keep_s)
    return {tonumber(old), tonumber(slot)}
  end
end
if taken >= size or attempt == closed then
  attempt, taken = attempt + 1, 0
end
redis.call('HSET', KEYS[1], 'attempt', attempt, 'taken', taken + 1, 'since', since, at, attempt .. ' ' .. taken)
redis.call('EXPIRE', KEYS[1], keep_s)
return {attempt, taken}
