#!lua flags=allow-oom
-- Say when a session is looked at next, if it has not moved since it was looked at; and that its host was there.
-- KEYS[1] session hash   KEYS[2] sessions due by themselves (sorted set, UTC µs)
-- ARGV[1] the epoch that was seen   ARGV[2] session_id   ARGV[3] when, µs, or '' for never   ARGV[4] host seen at, µs, or ''
-- Returns 1, or 0 if the session has moved (its move has said when) or is gone. A repeat writes the same again.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and epoch ~= ARGV[1] then return 0 end
if not epoch or ARGV[3] == '' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  return 0
end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'host_seen_us', ARGV[4]) end
return 1
