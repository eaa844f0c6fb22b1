-- Restarts the claim timeout of the entries that the consumer still owns, without counting a delivery.
-- KEYS stream; ARGV consumer group, consumer, entry ids. Returns the ids of these entries.
local renewed = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 1 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    renewed[#renewed + 1] = ARGV[i]
  end
end
return renewed
