-- Claims again the entries that the consumer owns already, counting a delivery.
-- KEYS stream; ARGV consumer group, consumer, first id, count. Returns rows of id, deliveries, fields.
local rows = {}
for _, pending in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4], ARGV[2])) do
  local id, deliveries = pending[1], pending[4] + 1
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', deliveries, 'JUSTID')
  rows[#rows + 1] = {id, deliveries, entry and entry[2] or {}}
end
return rows
