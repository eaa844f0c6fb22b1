-- Claims up to count entries: new ones, or ones whose claim has lapsed.
-- KEYS stream, request and, for a learner, incarnation; ARGV consumer group, consumer, claim timeout in ms ('' if no other
-- consumer may claim), count, what to look for first ('new' or 'lapsed'), seconds to remember and, for a learner, its own
-- incarnation.
-- Returns {rows, last id}: rows of id, deliveries, fields (the same when the client repeats the call), and, if there are
-- none, the last id ever claimed.
-- include last_delivered
-- include fenced
local consumer_group, consumer, timeout, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local rows = {}

local function add(id, fields)
  local pending = redis.call('XPENDING', KEYS[1], consumer_group, id, id, 1)[1]
  if pending then
    rows[#rows + 1] = {id, pending[4], fields}
  end
end

local function claim_new()
  local reply = redis.call('XREADGROUP', 'GROUP', consumer_group, consumer, 'COUNT', count, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    add(entry[1], entry[2])
  end
end

local function claim_lapsed()
  local cursor = '0-0'
  while timeout ~= '' and #rows < count do
    local page = redis.call('XAUTOCLAIM', KEYS[1], consumer_group, consumer, timeout, cursor, 'COUNT', count - #rows)
    for _, entry in ipairs(page[2]) do
      add(entry[1], entry[2])
    end
    cursor = page[1]
    if cursor == '0-0' then
      break
    end
  end
end

local refusal = KEYS[3] and fenced(KEYS[3], ARGV[7])
if refusal then
  return refusal
end

local known = redis.call('GET', KEYS[2])
if known then
  for id in string.gmatch(known, '%S+') do
    local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then
      add(id, entry[2])
    end
  end
  return {rows, ''}
end

if ARGV[5] == 'lapsed' then
  claim_lapsed()
end
if #rows == 0 then
  claim_new()
end
if #rows == 0 and ARGV[5] == 'new' then
  claim_lapsed()
end
if #rows == 0 then
  return {rows, last_delivered(KEYS[1], consumer_group)}
end
local ids = {}
for i, row in ipairs(rows) do
  ids[i] = row[1]
end
redis.call('SETEX', KEYS[2], ARGV[6], table.concat(ids, ' '))
return {rows, ''}
