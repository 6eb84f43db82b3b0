#!lua flags=allow-oom
-- Apply one batch of one source's outbox to the global boards of this shard.
-- Twin of the packed-score arithmetic in record_answers.lua; its home is contracts/ranking.py.
--
-- KEYS[1] position of the source on this shard   KEYS[2..] the distinct boards, by index
-- ARGV[1] from (the position the batch continues), ARGV[2] to, ARGV[3] number of runs (answers that follow each other and
-- count on the same boards), then per run:
--   b            number of boards, then their b indices in KEYS
--   n            number of answers, then per answer: user_id, points, and b ticks, of each board
-- Returns {'applied', to, overflows} or {'elsewhere', position, 0} if the position is not `from`.
-- A repeat finds the position moved and changes nothing; an empty batch moves it too.
-- Points stop at 2^31 - 1 (counted in overflows): the answer was counted already, and must not stop the relay.

local TICK_SPAN = 4194304
local POINTS_MAX = 2147483647
local function digits(x) return string.format('%.0f', x) end

local position = redis.call('GET', KEYS[1]) or '0'
if position ~= ARGV[1] then return {'elsewhere', position, 0} end

-- Read first, one call a board; then sum; then write, one call a board.
local AT_ONCE = 1000   -- members a call: Lua's stack takes some thousands
local function in_parts(command, key, items, found)
  for from = 1, #items, AT_ONCE do
    local reply = redis.call(command, key, unpack(items, from, math.min(from + AT_ONCE - 1, #items)))
    if found then
      for i = 1, #reply do found[from + i - 1] = reply[i] end
    end
  end
end

local runs, users, totals = {}, {}, {}   -- board (index in KEYS) -> its users; -> user -> packed
local at = 4
for r = 1, tonumber(ARGV[3]) do
  local b = tonumber(ARGV[at])
  local boards = {}
  for i = 1, b do
    boards[i] = tonumber(ARGV[at + i])
    if users[boards[i]] == nil then users[boards[i]] = {}; totals[boards[i]] = {} end
  end
  local n, first, size = tonumber(ARGV[at + b + 1]), at + b + 2, b + 2
  at = first + n * size
  runs[r] = {boards = boards, first = first, last = at - size, size = size}
  for p = first, at - size, size do
    local user = ARGV[p]
    for i = 1, b do
      local board = boards[i]
      if totals[board][user] == nil then
        totals[board][user] = 0
        users[board][#users[board] + 1] = user
      end
    end
  end
end
for board, those in pairs(users) do
  local found, packed = {}, totals[board]
  in_parts('ZMSCORE', KEYS[board], those, found)
  for i = 1, #those do packed[those[i]] = tonumber(found[i] or '0') end
end
local overflows = 0
for r = 1, #runs do
  local run = runs[r]
  for p = run.first, run.last, run.size do
    local user, points = ARGV[p], tonumber(ARGV[p + 1])
    if points > 0 then
      for i = 1, #run.boards do
        local packed_of = totals[run.boards[i]]
        local packed, ticks = packed_of[user], tonumber(ARGV[p + 1 + i])
        local old_points = math.floor(packed / TICK_SPAN)
        if old_points > 0 then ticks = math.max(ticks, TICK_SPAN - 1 - (packed % TICK_SPAN)) end
        local sum = old_points + points
        if sum > POINTS_MAX then sum = POINTS_MAX; overflows = overflows + 1 end
        packed_of[user] = sum * TICK_SPAN + (TICK_SPAN - 1 - ticks)
      end
    end
  end
end
for board, those in pairs(users) do
  local flat, packed = {}, totals[board]
  for i = 1, #those do
    flat[2 * i - 1], flat[2 * i] = digits(packed[those[i]]), those[i]
  end
  in_parts('ZADD', KEYS[board], flat)
end
redis.call('SET', KEYS[1], ARGV[2])
return {'applied', ARGV[2], overflows}
