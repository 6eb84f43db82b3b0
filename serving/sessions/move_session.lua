#!lua flags=allow-oom
-- Move a session to its next state, if nobody moved it first; and say when it is due by itself, and tell everyone.
-- KEYS[1] session hash   KEYS[2] set of removed players   KEYS[3] sessions due by themselves (sorted set, UTC µs)
-- ARGV[1] the epoch the move was decided on   ARGV[2] session_id   ARGV[3] when it is due, µs, or '' for never
-- ARGV[4] 'remove' | 'readmit' | ''   ARGV[5] the user of that   ARGV[6] channel   ARGV[7..] pairs of field and value
-- Returns 1 if moved, 0 if the epoch is another (a repeat of a done move too: it changes nothing) or the session is
-- being sealed (a seal keeps the epoch: the move would open it again), -1 if unknown.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return -1 end
if epoch ~= ARGV[1] or redis.call('HGET', KEYS[1], 'state') == 'sealed' then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('HINCRBY', KEYS[1], 'version', 1)
if ARGV[4] == 'remove' then redis.call('SADD', KEYS[2], ARGV[5]) end
if ARGV[4] == 'readmit' then redis.call('SREM', KEYS[2], ARGV[5]) end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[3], ARGV[2])
else
  redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
end
redis.call('PUBLISH', ARGV[6], 'state')
return 1
