-- READY -> LEASED: one judge at a time has the cohort, until its lease runs out. Each lease has a term, the fence of what is
-- written under it.
-- KEYS cohort; ARGV owner, ms of the lease, digest of this call (a repeated call gets the same lease).
-- Returns {'yours', term, ms until the deadline, question, size, missing members, slots, responses, {place, vote, ...}},
-- or {state} where there is nothing to be judged: 'gone', 'collecting', 'leased', 'judged'.
-- include cohort_clock
local now = clock()
local state, _, due, left = unpack(seen(KEYS[1], now))
if state ~= 'ready' then
  return {state}
end
local row = redis.call('HMGET', KEYS[1], 'owner', 'term', 'question', 'size', 'call')
local term = tonumber(row[2])
if left > 0 then
  if row[1] ~= ARGV[1] or row[5] ~= ARGV[3] then
    return {'leased'}
  end
else
  term = term + 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'call', ARGV[3], 'term', term, 'until', now + tonumber(ARGV[2]))
local slots, responses, votes = {}, {}, {}
local all = redis.call('HGETALL', KEYS[1])
local texts = {}
for i = 1, #all, 2 do
  local kind, at = string.match(all[i], '^(%a+):(%d+)$')
  if kind == 'response' then
    slots[#slots + 1] = tonumber(at)
    texts[at] = all[i + 1]
  elseif kind == 'vote' then
    votes[#votes + 1] = at
    votes[#votes + 1] = all[i + 1]
  end
end
table.sort(slots)
for i, slot in ipairs(slots) do
  responses[i] = texts[tostring(slot)]
end
local missing = math.max(0, tonumber(row[4]) - arrived(KEYS[1]))
return {'yours', term, due, row[3], tonumber(row[4]), missing, slots, responses, votes}
