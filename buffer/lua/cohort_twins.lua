-- Members of a cohort whose callers name no slots. Two that wait with one response at one time are two members, twins; a request
-- that is sent again is none, but looks like one while it is not known yet that its first caller hung up, or that the process
-- died that held it. The ticket of a request that waits is 'ticket:PROCESS:...'. So a cohort that only twins make whole stays open
-- for SETTLE_MS, in which hang-ups arrive ('whole': when they are over, in ms), and until each process that waits for it has
-- looked at it since; a process that has not within another DOUBT_MS is dead, and its tickets go.
local SETTLE_MS, DOUBT_MS = 1000, 2000

-- Members that are in: each slot once, or as often as requests wait with its response.
local function arrived(cohort)
  local row = redis.call('HMGET', cohort, 'slots', 'size', 'twins')
  local count = tonumber(row[1])
  if row[3] == '1' then
    for slot = 0, tonumber(row[2]) - 1 do
      count = count + math.max(0, tonumber(redis.call('HGET', cohort, 'waiting:' .. slot) or '0') - 1)
    end
  end
  return count
end

-- The time from which on a cohort counts as whole by its twins is set with the last of them, and void when one of them leaves.
local function count_twins(cohort, now)
  if arrived(cohort) >= tonumber(redis.call('HGET', cohort, 'size')) then
    redis.call('HSETNX', cohort, 'whole', now + SETTLE_MS)
  else
    redis.call('HDEL', cohort, 'whole')
  end
end

-- Whether a cohort is whole with its twins. `process` looks at it, nil: nobody who waits for it.
local function twins_wait(cohort, now, process)
  local row = redis.call('HMGET', cohort, 'whole', 'size')
  local whole, size, unseen = tonumber(row[1]), tonumber(row[2]), {}
  if process then
    redis.call('HSET', cohort, 'alive:' .. process, now)
  end
  if now < whole then
    return false
  end
  for _, field in ipairs(redis.call('HKEYS', cohort)) do
    local holder = string.match(field, '^ticket:(%w+):')
    if holder and tonumber(redis.call('HGET', cohort, 'alive:' .. holder) or '0') < whole then
      unseen[#unseen + 1] = field
    end
  end
  if #unseen > 0 and now - whole < DOUBT_MS then
    return false
  end
  for _, ticket in ipairs(unseen) do
    redis.call('HINCRBY', cohort, 'waiting:' .. redis.call('HGET', cohort, ticket), -1)
    redis.call('HDEL', cohort, ticket)
  end
  if arrived(cohort) < size then
    redis.call('HDEL', cohort, 'whole')
    return false
  end
  return true
end
