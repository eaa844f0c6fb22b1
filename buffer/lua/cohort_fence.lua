-- Whether a judge may still write: its lease was not taken over, and there is no verdict.
local function holds(cohort, term)
  local row = redis.call('HMGET', cohort, 'state', 'term')
  return row[1] == 'ready' and row[2] == term
end
