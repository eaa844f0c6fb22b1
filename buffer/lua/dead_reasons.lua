-- dead_reasons
-- Returns the reasons of the newest dead letters, newest first. KEYS dead letters; ARGV how many.
local reasons, before = {}, '+'
while #reasons < tonumber(ARGV[1]) do
  local entry = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 1)[1] -- one by one: its payload is read, too
  if not entry then
    break
  end
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'reason' then
      reasons[#reasons + 1] = entry[2][i + 1]
    end
  end
  before = '(' .. entry[1]
end
return reasons
