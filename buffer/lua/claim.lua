-- Claims up to count entries: new ones, or ones whose claim has lapsed.
-- KEYS stream, request and, for a learner, incarnation; ARGV consumer group, consumer, claim timeout in ms ('' if no other
-- consumer may claim), count, what to look for first ('new' or 'lapsed'), seconds to remember, how many workers share the
-- stream, where to look for lapsed claims from ('0-0': the beginning) and, for a learner, its own incarnation.
-- Returns {rows, last id, where to look from next}: rows of id, deliveries, fields (the same when the client repeats the call),
-- and, if there are none, the last id ever claimed. The cost is bounded however many others hold however many claims.
-- include last_delivered
-- include fenced
local consumer_group, consumer, timeout, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local workers, cursor = tonumber(ARGV[7]), ARGV[8]
local PAGES = 10 -- XAUTOCLAIM looks at ten claims for each that it may take: a hundred at least
local LIES_MS = 1000 -- an entry that lies for so long is wanted by nobody whose share it is
local rows = {}

local function add(id, fields)
  local pending = redis.call('XPENDING', KEYS[1], consumer_group, id, id, 1)[1]
  if pending then
    rows[#rows + 1] = {id, pending[4], fields}
  end
end

local function claim_new(most)
  if most <= 0 then
    return
  end
  local reply = redis.call('XREADGROUP', 'GROUP', consumer_group, consumer, 'COUNT', most, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    add(entry[1], entry[2])
  end
end

local function claim_lapsed(most)
  local pages = timeout == '' and 0 or PAGES
  while pages > 0 and #rows < most do
    local page = redis.call('XAUTOCLAIM', KEYS[1], consumer_group, consumer, timeout, cursor, 'COUNT', most - #rows)
    for _, entry in ipairs(page[2]) do
      add(entry[1], entry[2])
    end
    cursor = page[1]
    pages = cursor == '0-0' and 0 or pages - 1
  end
end

-- How many entries the consumer may claim by its fair share: ceil(entries not handed on / workers), less what it holds.
local function share()
  local fair = math.ceil(redis.call('XLEN', KEYS[1]) / workers)
  local held = fair > 0 and #redis.call('XPENDING', KEYS[1], consumer_group, '-', '+', fair, consumer) or 0
  return math.min(count, fair - held)
end

local function lies()
  local after = last_delivered(KEYS[1], consumer_group)
  local oldest = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 1)[1]
  local now = redis.call('TIME')
  return oldest and now[1] * 1000 + now[2] / 1000 - tonumber(string.match(oldest[1], '^%d+')) >= LIES_MS
end

local refusal = KEYS[3] and fenced(KEYS[3], ARGV[9])
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
  return {rows, '', cursor}
end

local new, lapsed = count, count
if workers > 1 then -- beyond the share: one entry that lies, so that no share waits for a worker that does not come
  local fair = share()
  lapsed = math.max(1, fair)
  new = fair > 0 and fair or lies() and 1 or 0
end
if ARGV[5] == 'lapsed' then
  claim_lapsed(lapsed)
end
if #rows == 0 then
  claim_new(new)
end
if #rows == 0 and ARGV[5] == 'new' then
  claim_lapsed(lapsed)
end
if #rows == 0 then
  return {rows, last_delivered(KEYS[1], consumer_group), cursor}
end
local ids = {}
for i, row in ipairs(rows) do
  ids[i] = row[1]
end
redis.call('SETEX', KEYS[2], ARGV[6], table.concat(ids, ' '))
return {rows, '', cursor}
