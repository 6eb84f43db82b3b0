#!lua flags=allow-oom
-- Apply one batch of one source's outbox to the global boards of this shard.
-- Twin of the packed-score arithmetic in record_answers.lua; its home is contracts/ranking.py.
--
-- KEYS[1] position of the source on this shard   KEYS[2..] the distinct boards, by index
-- ARGV[1] from (the position the batch continues), ARGV[2] to, ARGV[3] number n of additions, then n times:
--   index in KEYS of the board, user_id, points, ticks
-- Returns {'applied', to, overflows} or {'elsewhere', position, 0} if the position is not `from`.
-- A repeat finds the position moved and changes nothing; an empty batch moves it too.
-- Points stop at 2^31 - 1 (counted in overflows): the answer was counted already, and must not stop the relay.

local TICK_SPAN = 4194304
local POINTS_MAX = 2147483647
local function digits(x) return string.format('%.0f', x) end

local position = redis.call('GET', KEYS[1]) or '0'
if position ~= ARGV[1] then return {'elsewhere', position, 0} end

-- Sum first, write once a (board, user).
local totals, order, overflows = {}, {}, 0
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local board, user = tonumber(ARGV[at]), ARGV[at + 1]
  local points, ticks = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  at = at + 4
  local users = totals[board]
  if users == nil then users = {}; totals[board] = users end
  local packed = users[user]
  if packed == nil then
    packed = tonumber(redis.call('ZSCORE', KEYS[board], user) or '0')
    order[#order + 1] = {board, user}
  end
  if points > 0 then
    local old_points = math.floor(packed / TICK_SPAN)
    if old_points > 0 then ticks = math.max(ticks, TICK_SPAN - 1 - (packed % TICK_SPAN)) end
    local sum = old_points + points
    if sum > POINTS_MAX then sum = POINTS_MAX; overflows = overflows + 1 end
    packed = sum * TICK_SPAN + (TICK_SPAN - 1 - ticks)
  end
  users[user] = packed
end
for _, pair in ipairs(order) do
  redis.call('ZADD', KEYS[pair[1]], digits(totals[pair[1]][pair[2]]), pair[2])
end
redis.call('SET', KEYS[1], ARGV[2])
return {'applied', ARGV[2], overflows}
