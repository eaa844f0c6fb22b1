-- KEYS outstanding, fates, experience; ARGV consumer group, fate, number of groups, groups, entry ids.
-- Settles groups and acknowledges entries; counts what was outstanding, so that running twice counts once.
local settled, entries = 0, 4 + tonumber(ARGV[3])
for i = 4, entries - 1 do
  settled = settled + redis.call('ZREM', KEYS[1], ARGV[i])
end
if settled > 0 then
  redis.call('HINCRBY', KEYS[2], ARGV[2], settled)
end
for i = entries, #ARGV do
  redis.call('XACK', KEYS[3], ARGV[1], ARGV[i])
end
return 1
