#!lua
-- Record a batch of answers: duplicate key, boards and outbox entry of one answer together.
-- Twins of the packed-score arithmetic: contracts/ranking.py (home), tests/model.py; vectors in tests/vectors.
--
-- KEYS[1] outbox stream   KEYS[2] outbox seq counter   KEYS[3] sessions by last write (sorted set)
-- KEYS[4..] the distinct keys the batch names by index
-- ARGV[1] number of answers n, ARGV[2] entries from which the outbox takes no new answer, then per answer:
--   mode         'live' | 'import' | 'late' (late: sealed session, checked by the caller; writes the outbox entry alone)
--   session      index in KEYS of the session hash
--   answers      index in KEYS of the session's duplicate hash
--   field        'question_id:user_id'
--   session_id, quiz_id, question_id, epoch ('' in import), user_id
--   points, occurred_at_us, correct ('0'|'1')
--   event        bytes of the outbox entry, opaque
--   type         the entry's type
--   detail       what a report of the session tells of the answer, opaque; kept behind the duplicate key's result
--   rank_board   index in KEYS of the board to report total and rank from, 0 for none
--   b            number of boards, then b pairs: index in KEYS, ticks (of that board, clamped)
-- Returns one list per answer: {status, points, occurred_at_us, seq, correct, packed, rank}
--   status: counted | repeat | or a code of contracts/errors.py: stale, session_sealed, session_ended,
--           question_closed, session_quiz_mismatch, points_overflow, outbox_full, invalid_field
--   packed is the total on rank_board as digits ('' if none), rank counts from 1 (0 if none).
-- A repeat finds its field and gets the first result back; nothing is written for it.
-- Step 1 reads and judges everything (a wrong type or number fails here, before any write);
-- step 2 only writes. A script is not rolled back by an error, so no check may stand in step 2. The first line of this
-- file makes a server that may not write (memory, disk, replicas) refuse before step 1.
-- Packed scores stay doubles and are printed with %.0f: tostring and `..` keep 14 digits.

local TICK_SPAN = 4194304            -- 2^22
local POINTS_MAX = 2147483647        -- 2^31 - 1

local function digits(x) return string.format('%.0f', x) end

-- integer in [0, limit], or nil
local function whole(text, limit)
  local x = tonumber(text)
  if x == nil or x ~= math.floor(x) or x < 0 or x > limit then return nil end
  return x
end

local function added(packed, points, ticks)
  if packed == nil then
    if points == 0 then return 0 end
    return points * TICK_SPAN + (TICK_SPAN - 1 - ticks)
  end
  if points == 0 then return packed end
  local old_points = math.floor(packed / TICK_SPAN)
  if old_points > 0 then
    local old_ticks = TICK_SPAN - 1 - (packed % TICK_SPAN)
    if old_ticks > ticks then ticks = old_ticks end
  end
  return (old_points + points) * TICK_SPAN + (TICK_SPAN - 1 - ticks)
end

local seq = tonumber(redis.call('GET', KEYS[2]) or '0')
local room = tonumber(ARGV[2]) - redis.call('XLEN', KEYS[1])
redis.call('ZCARD', KEYS[3])   -- a wrong type fails here, before any write
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] and last[1][1] ~= digits(seq) .. '-0' then
  return redis.error_reply('OUTBOX_DISAGREES last entry ' .. last[1][1] .. ' but counter ' .. digits(seq))
end

local sessions = {}   -- session key index -> {state, epoch, question_id, deadline_us, quiz_id}
local seen = {}       -- answers key index -> field -> position of the first answer in this batch
local totals = {}     -- board key index -> user -> packed, as if the batch so far were written
local replies, plans = {}, {}

local function total_of(board, user)
  local users = totals[board]
  if users == nil then users = {}; totals[board] = users end
  local packed = users[user]
  if packed == nil then
    local text = redis.call('ZSCORE', KEYS[board], user)
    packed = text and tonumber(text) or false
    users[user] = packed
  end
  if packed == false then return nil end
  return packed
end

local function refusal(a, session)
  if a.mode == 'late' then return nil end
  if not session.state then return 'stale' end
  if session.state == 'sealed' then return 'session_sealed' end
  if session.quiz_id ~= a.quiz_id then return 'session_quiz_mismatch' end
  return nil
end

local function live_refusal(a, session)
  if a.mode ~= 'live' then return nil end
  if session.state == 'ended' then return 'session_ended' end
  if session.epoch ~= a.epoch then return 'stale' end
  -- A challenge is open from its creation to its end; the caller has judged the question's own time.
  if session.state ~= 'open' then
    if session.state ~= 'question' then return 'question_closed' end
    if session.question_id ~= a.question_id then return 'question_closed' end
  end
  local deadline = tonumber(session.deadline_us or '')
  if deadline and a.occurred > deadline then return 'question_closed' end
  return nil
end

local function session_of(index)
  local s = sessions[index]
  if s == nil then
    local f = redis.call('HMGET', KEYS[index], 'state', 'epoch', 'question_id', 'deadline_us', 'quiz_id')
    s = {state = f[1], epoch = f[2], question_id = f[3], deadline_us = f[4] or '', quiz_id = f[5]}
    sessions[index] = s
  end
  return s
end

local function first_result(a)
  if a.mode == 'late' then return nil end
  local text = redis.call('HGET', KEYS[a.answers], a.field)
  if not text then return nil end
  local points, occurred, first_seq, correct = string.match(text, '^(%d+)|(%d+)|(%d+)|([01])')
  return {'repeat', points, occurred, first_seq, correct, '', 0}
end

-- Step 1: read and judge.
local at = 3
for i = 1, tonumber(ARGV[1]) do
  local a = {
    mode = ARGV[at], session = tonumber(ARGV[at + 1]), answers = tonumber(ARGV[at + 2]), field = ARGV[at + 3],
    session_id = ARGV[at + 4], quiz_id = ARGV[at + 5], question_id = ARGV[at + 6], epoch = ARGV[at + 7],
    user = ARGV[at + 8], points = whole(ARGV[at + 9], POINTS_MAX), occurred_text = ARGV[at + 10],
    occurred = whole(ARGV[at + 10], 2^53), correct = ARGV[at + 11], event = ARGV[at + 12], type = ARGV[at + 13],
    detail = ARGV[at + 14], rank_board = tonumber(ARGV[at + 15]), boards = {},
  }
  local boards = tonumber(ARGV[at + 16])
  at = at + 17
  local numbers_hold = a.points ~= nil and a.occurred ~= nil and (a.correct == '0' or a.correct == '1')
  for b = 1, boards do
    local ticks = whole(ARGV[at + 1], TICK_SPAN - 1)
    if ticks == nil then numbers_hold = false end
    a.boards[b] = {tonumber(ARGV[at]), ticks}
    at = at + 2
  end
  local session = session_of(a.session)
  local status = refusal(a, session)
  local in_batch = seen[a.answers] and seen[a.answers][a.field]
  if not numbers_hold then
    replies[i] = {'invalid_field', '0', '0', '0', '0', '', 0}
  elseif status then
    replies[i] = {status, '0', '0', '0', '0', '', 0}
  elseif in_batch then
    local first = replies[in_batch]
    replies[i] = {'repeat', first[2], first[3], first[4], first[5], '', 0}
  else
    local reply = first_result(a)
    status = reply == nil and live_refusal(a, session) or nil
    if reply == nil and status == nil and #plans >= room then status = 'outbox_full' end
    if reply == nil and status == nil then
      for _, pair in ipairs(a.boards) do
        local packed = total_of(pair[1], a.user)
        local old_points = packed and math.floor(packed / TICK_SPAN) or 0
        if old_points + a.points > POINTS_MAX then status = 'points_overflow' end
      end
    end
    if reply then
      replies[i] = reply
    elseif status then
      replies[i] = {status, '0', '0', '0', '0', '', 0}
    else
      for _, pair in ipairs(a.boards) do
        totals[pair[1]][a.user] = added(total_of(pair[1], a.user), a.points, pair[2])
      end
      seq = seq + 1
      a.seq = digits(seq)
      seen[a.answers] = seen[a.answers] or {}
      seen[a.answers][a.field] = i
      plans[#plans + 1] = a
      replies[i] = {'counted', digits(a.points), a.occurred_text, a.seq, a.correct, '', 0}
    end
  end
  replies[i].rank_board, replies[i].user = a.rank_board, a.user
end

-- Step 2: write. Board totals were summed above, so each (board, user) is written once.
local written = {}
for _, a in ipairs(plans) do
  redis.call('XADD', KEYS[1], a.seq .. '-0', 't', a.type, 'e', a.event, 'm', a.mode)
  if a.mode ~= 'late' then
    redis.call('HSET', KEYS[a.answers], a.field,
      digits(a.points) .. '|' .. a.occurred_text .. '|' .. a.seq .. '|' .. a.correct
        .. (a.detail ~= '' and '|' .. a.detail or ''))
    for _, pair in ipairs(a.boards) do
      local done = written[pair[1]]
      if done == nil then done = {}; written[pair[1]] = done end
      if not done[a.user] then
        redis.call('ZADD', KEYS[pair[1]], digits(totals[pair[1]][a.user]), a.user)
        done[a.user] = true
      end
    end
  end
end
if #plans > 0 then
  redis.call('SET', KEYS[2], digits(seq))
  local now = redis.call('TIME')
  local now_us = digits(tonumber(now[1]) * 1000000 + tonumber(now[2]))
  local touched, live = {}, {}
  for _, a in ipairs(plans) do
    if a.mode == 'live' then live[a.session] = (live[a.session] or 0) + 1 end
  end
  for session, count in pairs(live) do
    redis.call('HINCRBY', KEYS[session], 'answered', count)   -- of the question shown; a move to the next sets it to 0
  end
  for _, a in ipairs(plans) do
    if a.mode ~= 'late' and not touched[a.session] then
      touched[a.session] = true
      redis.call('HSET', KEYS[a.session], 'last_write_us', now_us)
      redis.call('HINCRBY', KEYS[a.session], 'version', 1)   -- what pushes are numbered by
      redis.call('ZADD', KEYS[3], now_us, a.session_id)
    end
  end
end
for _, reply in ipairs(replies) do
  if reply.rank_board > 0 then
    local text = redis.call('ZSCORE', KEYS[reply.rank_board], reply.user)
    if text then
      reply[6] = digits(tonumber(text))
      reply[7] = redis.call('ZREVRANK', KEYS[reply.rank_board], reply.user) + 1
    end
  end
  reply.rank_board, reply.user = nil, nil
end
return replies
