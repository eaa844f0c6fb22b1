-- KEYS stream; ARGV consumer group, consumer. What it has claimed and not finished may be claimed by others at once, as
-- if it had never been delivered to it; then the consumer is gone. Returns how many entries were given back.
local given = 0
local FOR_EVER = 100000000000 -- ms of idleness: past every claim timeout
while true do
  local page = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100, ARGV[2])
  if #page == 0 then
    break
  end
  for _, pending in ipairs(page) do
    redis.call('XCLAIM', KEYS[1], ARGV[1], 'given-back', 0, pending[1],
      'IDLE', FOR_EVER, 'RETRYCOUNT', pending[4] - 1, 'FORCE', 'JUSTID')
    given = given + 1
  end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return given
