-- Gives back the consumer's unfinished claims, which others may then claim at once as if they had never been delivered to
-- it, and removes the consumer. KEYS stream; ARGV consumer group, consumer. Returns how many entries were given back.
local LAPSED = 100000000000 -- ms of idleness: past every claim timeout
local given_back = 0
while true do
  local page = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100, ARGV[2])
  if #page == 0 then
    break
  end
  for _, pending in ipairs(page) do
    redis.call('XCLAIM', KEYS[1], ARGV[1], 'given-back', 0, pending[1],
      'IDLE', LAPSED, 'RETRYCOUNT', pending[4] - 1, 'FORCE', 'JUSTID')
    given_back = given_back + 1
  end
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return given_back
