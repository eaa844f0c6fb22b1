-- The announced edition never goes back: (incarnation, version) is compared in this order, and an older one is ignored.
-- KEYS weights; ARGV incarnation, version. The value is 'incarnation.version'.
-- Returns 1 if this edition is the announced one now (also when its client repeats the call), 0 if a newer one was there.
local incarnation, version = tonumber(ARGV[1]), tonumber(ARGV[2])
local announced = redis.call('GET', KEYS[1])
if announced then
  local last_incarnation, last_version = string.match(announced, '^(%d+)%.(%d+)$')
  last_incarnation, last_version = tonumber(last_incarnation), tonumber(last_version)
  if incarnation < last_incarnation or (incarnation == last_incarnation and version < last_version) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1] .. '.' .. ARGV[2])
return 1
