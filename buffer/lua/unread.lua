-- Counts the entries behind an id, page by page: only one page is in memory at a time. KEYS stream; ARGV the id.
local PAGE = 100
local count, after = 0, ARGV[1]
repeat
  local page = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', PAGE)
  count = count + #page
  after = #page > 0 and page[#page][1] or after
until #page < PAGE
return count
