-- For scripts that include it. The refusal of a learner whose place another has taken since; nil for the one that is in place.
local function fenced(incarnation_key, own)
  if (redis.call('GET', incarnation_key) or '0') ~= own then
    return redis.error_reply('FENCED another learner has taken this one\'s place')
  end
end
