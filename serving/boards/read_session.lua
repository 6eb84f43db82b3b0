#!lua flags=no-writes
-- A session as its clients see it, at one instant.
--
-- KEYS[1] session hash   KEYS[2] removed players   KEYS[3] board
-- ARGV[1] rows of the board
-- Returns {{field, value, …}, {removed user, …}, {user, score, …} of the first rows, members of the board}

return {
  redis.call('HGETALL', KEYS[1]),
  redis.call('SMEMBERS', KEYS[2]),
  redis.call('ZREVRANGE', KEYS[3], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES'),
  redis.call('ZCARD', KEYS[3]),
}
