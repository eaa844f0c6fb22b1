-- I4, no silent loss: experience is deleted only below the lowest id that some consumer group has not acknowledged.
-- KEYS experience. Returns how many entries were deleted.
local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local low_ms, low_seq
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for i = 1, #flat, 2 do
    info[flat[i]] = flat[i + 1]
  end
  local ms, seq
  if info['pending'] > 0 then
    ms, seq = split(redis.call('XPENDING', KEYS[1], info['name'])[2]) -- the oldest pending
  else
    ms, seq = split(info['last-delivered-id']) -- all up to here is acknowledged
    seq = seq + 1
  end
  if not low_ms or ms < low_ms or (ms == low_ms and seq < low_seq) then
    low_ms, low_seq = ms, seq
  end
end
if not low_ms then
  return 0
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f-%.0f', low_ms, low_seq))
