#!lua flags=no-writes
-- A board that lies whole on this shard, at one instant: its first rows, the rows around a user, several users' places.
-- ZREVRANGE's order is the contract's: score down, then user_id down by bytes. So ZREVRANK + 1 is the rank.
--
-- KEYS[1] board
-- ARGV[1] k   ARGV[2] user in the middle, '' for none   ARGV[3] rows on either side   ARGV[4..] users whose places to tell
-- Returns {members, {user, score, …} of the first k, rank of the first row around, {user, score, …} around,
--          {{rank, score} or {}, …}}

local key, k, user, m = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local top = {}
if k > 0 then top = redis.call('ZREVRANGE', key, 0, k - 1, 'WITHSCORES') end

local first, around = 0, {}
if user ~= '' then
  local at = redis.call('ZREVRANK', key, user)
  if at then
    first = math.max(at - m, 0) + 1
    around = redis.call('ZREVRANGE', key, first - 1, at + m, 'WITHSCORES')
  end
end

local places = {}
for i = 4, #ARGV do
  local at = redis.call('ZREVRANK', key, ARGV[i])
  places[i - 3] = at and {at + 1, redis.call('ZSCORE', key, ARGV[i])} or {}
end

return {redis.call('ZCARD', key), top, first, around, places}
