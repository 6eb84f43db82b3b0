#!lua
-- Keep what others see of a user, unless a newer version is kept or being written.
-- KEYS[1] the profile   ARGV[1] version   ARGV[2] its JSON, or '' while the version is being written   ARGV[3] seconds to keep it
-- Returns 1, or 0 where a newer version is kept. A repeat writes the same bytes.
local kept = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)|') or '')
if kept and kept > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'EX', ARGV[3])
return 1
