#!lua
-- Create a session's hash if the shard does not have it.
-- KEYS[1] session hash   KEYS[2] sessions by last write (sorted set)
-- ARGV[1] session_id, ARGV[2..] field, value, field, value …
-- Returns 'created', or 'there' (nothing changed). A repeat is 'there'.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'there' end
local fields = {}
for i = 2, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
local now = redis.call('TIME')
local now_us = string.format('%.0f', tonumber(now[1]) * 1000000 + tonumber(now[2]))
redis.call('HSET', KEYS[1], 'last_write_us', now_us)
redis.call('ZADD', KEYS[2], now_us, ARGV[1])
return 'created'
