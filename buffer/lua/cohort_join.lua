-- COLLECTING: members join; with the last one the cohort is READY. A member joins once per ticket, so the call may be repeated.
-- KEYS cohort, open; ARGV name of the cohort, process, ticket, question, its digest, size, ms to collect, ms to the deadline,
-- seconds to keep, cohorts that may be open at a time, whether twins count ('1': as in cohort_twins), then for each response:
-- slot, text, digest.
-- Returns {'joined', state, ms until it closes, ms until its deadline, ms left of the lease, votes, verdict or ''}, or why not:
-- {'full'}, {'other'} (another question, or another size), {'taken', slot}, {'closed', slot}.
-- include cohort_clock
local name, process, question, digest, size = ARGV[1], ARGV[2], ARGV[4], ARGV[5], tonumber(ARGV[6])
local collect, deadline, keep_s, most = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local twins, ticket = ARGV[11] == '1', 'ticket:' .. process .. ':' .. ARGV[3]
local FIRST, WIDTH = 12, 3
local now = clock()

local state = redis.call('HGET', KEYS[1], 'state')
local fresh = not state
if fresh then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. now - keep_s * 1000)
  if redis.call('ZCOUNT', KEYS[2], now, '+inf') >= most then
    return {'full'}
  end
  state = 'collecting'
  redis.call('HSET', KEYS[1], 'state', state, 'question', question, 'digest', digest, 'size', size, 'slots', 0,
    'twins', ARGV[11], 'born', now, 'closes', now + collect, 'due', now + deadline, 'last', 0, 'until', 0, 'term', 0)
elseif redis.call('HGET', KEYS[1], 'digest') ~= digest or tonumber(redis.call('HGET', KEYS[1], 'size')) ~= size then
  return {'other'}
end
for i = FIRST, #ARGV, WIDTH do
  local there = redis.call('HGET', KEYS[1], 'is:' .. ARGV[i])
  if there and there ~= ARGV[i + 2] then
    return {'taken', tonumber(ARGV[i])}
  end
  -- Whoever waits looks all the time, so what collects behind its time was left by all its callers: those of a query begin anew.
  local left = twins and tonumber(redis.call('HGET', KEYS[1], 'closes')) <= now and not fresh
  if not there and (state ~= 'collecting' or left) then
    return {'closed', tonumber(ARGV[i])}
  end
end
for i = FIRST, #ARGV, WIDTH do
  local slot = ARGV[i]
  if redis.call('HSETNX', KEYS[1], 'is:' .. slot, ARGV[i + 2]) == 1 then
    redis.call('HSET', KEYS[1], 'response:' .. slot, ARGV[i + 1])
    redis.call('HINCRBY', KEYS[1], 'slots', 1)
  end
  if twins and state == 'collecting' and redis.call('HSETNX', KEYS[1], ticket, slot) == 1 then
    redis.call('HINCRBY', KEYS[1], 'waiting:' .. slot, 1)
  end
end
if state == 'collecting' then
  if tonumber(redis.call('HGET', KEYS[1], 'slots')) >= size then
    redis.call('HSET', KEYS[1], 'state', 'ready')
  elseif twins then
    count_twins(KEYS[1], now)
  end
end
if state ~= 'judged' then
  local row = redis.call('HMGET', KEYS[1], 'due', 'last')
  local due, last = tonumber(row[1]), math.max(tonumber(row[2]), now + deadline)
  if due <= now or now + deadline < due then -- asked again after its deadline, it goes on with the votes that are there
    due = now + deadline
  end
  redis.call('HSET', KEYS[1], 'due', due, 'last', last)
  redis.call('ZADD', KEYS[2], last, name)
end
-- While somebody may wait for it, it stays, however short a time a verdict is kept.
redis.call('EXPIRE', KEYS[1], keep_s + (state == 'judged' and 0 or math.ceil(deadline / 1000)))
return {'joined', unpack(seen(KEYS[1], now, process))}
