-- Counts dead letters by the stream that they came from. KEYS dead letters. Returns stream, count in turn.
local counts, after = {}, '-'
while true do
  local page = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 16) -- small pages: payloads are read here
  if #page == 0 then
    break
  end
  for _, entry in ipairs(page) do
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'stream' then
        counts[entry[2][i + 1]] = (counts[entry[2][i + 1]] or 0) + 1
      end
    end
    after = '(' .. entry[1]
  end
end
local flat = {}
for stream, count in pairs(counts) do
  flat[#flat + 1], flat[#flat + 2] = stream, count
end
return flat
