#!lua
-- Keep what a row says, unless a newer version of it is kept or being written.
-- KEYS[1] what is cached   ARGV[1] version   ARGV[2] its JSON, or '' while the version is being written   ARGV[3] seconds to keep it
-- Returns the version that is kept now: ARGV[1], or a newer one. A repeat writes the same bytes.
local kept = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)|') or '')
local version = tonumber(ARGV[1])
if kept and kept > version then return kept end
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'EX', ARGV[3])
return version
