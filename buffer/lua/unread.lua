-- KEYS stream; ARGV an id. Entries behind it, counted page by page: a page is all that is in memory at a time.
local PAGE = 100
local count, after = 0, ARGV[1]
repeat
  local page = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', PAGE)
  count = count + #page
  after = #page > 0 and page[#page][1] or after
until #page < PAGE
return count
