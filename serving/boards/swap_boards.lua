#!lua flags=allow-oom
-- Put boards that were made anew in the place of the live ones, if nothing has moved since they were made.
-- KEYS[1..c] counters: the outbox's seq of this shard, or the positions of all sources (global boards)
-- KEYS[c+1..] triples: board made anew (absent: nobody is on it), live board, players of the session (hash), or the
--   live board again where there are no players
-- ARGV[1] c   ARGV[2] 'equal' (counters must be what they were) | 'at_most' (they may be lower, and are then set)
-- ARGV[3..c+2] what the counters are expected to be
-- Returns {'swapped'} or {'moved', counters …}, and then nothing was written.
-- A repeat finds no board made anew: only call it again with boards that were written again.
-- A session's players stay on its board with 0 points, whether or not they have answered.
local function digits(x) return string.format('%.0f', x) end
local count = tonumber(ARGV[1])
local moved, found = false, {'moved'}
for i = 1, count do
  local now, expected = tonumber(redis.call('GET', KEYS[i]) or '0'), tonumber(ARGV[i + 2])
  found[i + 1] = digits(now)
  if now > expected or (ARGV[2] == 'equal' and now ~= expected) then moved = true end
end
if moved then return found end
for at = count + 1, #KEYS, 3 do
  local made, live, players = KEYS[at], KEYS[at + 1], KEYS[at + 2]
  if players ~= live then
    for _, user in ipairs(redis.call('HKEYS', players)) do redis.call('ZADD', made, 'NX', 0, user) end
    for _, user in ipairs(redis.call('ZRANGEBYSCORE', live, 0, 0)) do redis.call('ZADD', made, 'NX', 0, user) end
  end
  if redis.call('EXISTS', made) == 1 then
    redis.call('RENAME', made, live)
  else
    redis.call('DEL', live)
  end
end
if ARGV[2] == 'at_most' then
  for i = 1, count do redis.call('SET', KEYS[i], digits(tonumber(ARGV[i + 2]))) end
end
return {'swapped'}
