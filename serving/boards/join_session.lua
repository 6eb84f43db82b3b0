#!lua
-- Put a player on a session's list and, with 0 points, on its board.
-- KEYS[1] session hash   KEYS[2] players (hash)   KEYS[3] the session's board   KEYS[4] set of removed players
-- ARGV[1] user_id   ARGV[2] name   ARGV[3] most players   ARGV[4] channel
-- Returns 'joined', or why not, with nothing written: 'unknown', 'ended', 'locked', 'full', 'removed'.
-- A repeat of the same user is 'joined' and changes nothing, locked and full or not.
local f = redis.call('HMGET', KEYS[1], 'state', 'locked')
if not f[1] then return 'unknown' end
if f[1] == 'podium' or f[1] == 'ended' or f[1] == 'sealed' then return 'ended' end
if redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 1 then return 'removed' end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 'joined' end
if f[2] == '1' then return 'locked' end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then return 'full' end
redis.call('ZADD', KEYS[3], 'NX', 0, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'version', 1)
redis.call('PUBLISH', ARGV[4], 'joined')
return 'joined'
