-- Issues prompts of the last issue again and deletes all entries of their groups from the streams.
-- KEYS prompts, rollouts, experience, outstanding, cursor; ARGV first group of the last issue, then group and payload in turn.
-- Harmless when repeated. Returns how many were issued again.
if redis.call('HGET', KEYS[5], 'round_start_group') ~= ARGV[1] then
  return redis.error_reply('REOPEN the last issue does not begin with group ' .. ARGV[1])
end
local again = {}
for i = 2, #ARGV, 2 do
  if not redis.call('ZSCORE', KEYS[4], ARGV[i]) then
    return redis.error_reply('REOPEN group ' .. ARGV[i] .. ' is not outstanding')
  end
  again[ARGV[i]] = true
end
for stream = 1, 3 do
  local readers = {}
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[stream])) do
    readers[#readers + 1] = flat[2] -- name, then consumers, pending, ...
  end
  for _, entry in ipairs(redis.call('XRANGE', KEYS[stream], '-', '+')) do
    if again[entry[2][2]] then -- fields: g, group, p, payload
      for _, reader in ipairs(readers) do
        redis.call('XACK', KEYS[stream], reader, entry[1])
      end
      redis.call('XDEL', KEYS[stream], entry[1])
    end
  end
end
for i = 2, #ARGV, 2 do
  redis.call('XADD', KEYS[1], '*', 'g', ARGV[i], 'p', ARGV[i + 1])
end
return (#ARGV - 1) / 2
