-- For scripts that include it. Returns an error for a learner that another has replaced, nil for the current one.
local function fenced(incarnation_key, own)
  if (redis.call('GET', incarnation_key) or '0') ~= own then
    return redis.error_reply('FENCED another learner has taken this one\'s place')
  end
end
