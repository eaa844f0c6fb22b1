-- For scripts that include it. Returns the last id of the stream that was ever claimed in the consumer group.
local function last_delivered(stream, consumer_group)
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if flat[2] == consumer_group then -- name, then consumers, pending, last-delivered-id
      for i = 1, #flat, 2 do
        if flat[i] == 'last-delivered-id' then
          return flat[i + 1]
        end
      end
    end
  end
end
