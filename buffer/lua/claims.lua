-- The pending and the unclaimed entries of one consumer group, at one instant. Claims nothing, changes nothing.
-- KEYS stream; ARGV consumer group, how many entries to list.
-- Returns {now in ms, number pending, rows of the oldest pending: id, owner, idle ms, deliveries, group number or '';
-- rows of the oldest unclaimed: id, group number or ''}.
-- include last_delivered
local consumer_group, listed = ARGV[1], ARGV[2]

local function group_of(fields)
  for i = 1, #fields, 2 do
    if fields[i] == 'g' then
      return fields[i + 1]
    end
  end
  return ''
end

local pending = redis.call('XPENDING', KEYS[1], consumer_group, '-', '+', listed)
for _, row in ipairs(pending) do
  local entry = redis.call('XRANGE', KEYS[1], row[1], row[1])[1] -- one at a time: payloads are read here
  row[5] = entry and group_of(entry[2]) or ''
end
local unclaimed, after = {}, '(' .. last_delivered(KEYS[1], consumer_group)
while #unclaimed < tonumber(listed) do
  local entry = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1]
  if not entry then
    break
  end
  unclaimed[#unclaimed + 1] = {entry[1], group_of(entry[2])}
  after = '(' .. entry[1]
end
local now = redis.call('TIME')
return {now[1] * 1000 + math.floor(now[2] / 1000), redis.call('XPENDING', KEYS[1], consumer_group)[1], pending, unclaimed}
