-- A member waits no longer: while others are collected, its response stays, and its next try is no second response.
-- KEYS cohort; ARGV process, ticket.
-- include cohort_clock
local ticket = 'ticket:' .. ARGV[1] .. ':' .. ARGV[2]
local slot = redis.call('HGET', KEYS[1], ticket)
if not slot or redis.call('HGET', KEYS[1], 'state') ~= 'collecting' then
  return 0
end
redis.call('HDEL', KEYS[1], ticket)
redis.call('HINCRBY', KEYS[1], 'waiting:' .. slot, -1)
count_twins(KEYS[1], clock())
return 1
