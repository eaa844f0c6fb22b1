-- The server's time in ms, so that no two machines have to agree on one; and a cohort as those see it who wait for it.
-- A cohort whose time to collect is over is READY with what it has. Its earliest deadline counts; where nothing was judged by
-- then, the latest one ('last') does, for those who wait still.
-- include cohort_twins
local function clock()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

local function seen(cohort, now, process)
  local row = redis.call('HMGET', cohort, 'state', 'closes', 'due', 'until', 'slots', 'verdict', 'whole', 'last', 'kept')
  if not row[1] then
    return {'gone', 0, 0, 0, 0, ''}
  end
  local closes = tonumber(row[2]) - now
  if row[1] == 'collecting' and ((closes <= 0 and tonumber(row[5]) > 0) or (row[7] and twins_wait(cohort, now, process))) then
    row[1] = 'ready'
    redis.call('HSET', cohort, 'state', row[1])
  end
  local due, last, left = tonumber(row[3]), tonumber(row[8]), math.max(0, tonumber(row[4]) - now)
  if due <= now and last > now and left == 0 and row[1] ~= 'judged' then
    due = last
    redis.call('HSET', cohort, 'due', due)
  end
  return {row[1], math.max(0, closes), math.max(0, due - now), left, tonumber(row[9] or '0'), row[6] or ''}
end
