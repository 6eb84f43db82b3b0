#!lua
-- Record a batch of answers: duplicate key, boards and outbox entry of one answer together.
-- Twins of the packed-score arithmetic: contracts/ranking.py (home), tests/model.py; vectors in tests/vectors.
--
-- KEYS[1] outbox stream   KEYS[2] outbox seq counter   KEYS[3] sessions by last write (sorted set)
-- KEYS[4..] the distinct keys the batch names by index
-- ARGV[1] number of runs, ARGV[2] entries from which the outbox takes no new answer, then per run (answers that follow each
-- other and have all of this in common):
--   mode         'live' | 'import' | 'late' (late: sealed session, checked by the caller; writes the outbox entry alone)
--   session      index in KEYS of the session hash
--   answers      index in KEYS of the session's duplicate hash
--   session_id, quiz_id, epoch ('' in import)
--   type         the outbox entries' type
--   rank_board   index in KEYS of the board to report total and rank from, 0 for none
--   handlers     index in KEYS of the set of handlers that have a socket of the session, 0 if nobody is told of the change
--   channel      where they are told   handler: who needs not be told, since it tells its own sockets
--   b            number of boards, then their b indices in KEYS
--   n            number of answers, then per answer:
--     field        'question_id:user_id'
--     question_id, user_id
--     points, occurred_at_us, correct ('0'|'1')
--     event        bytes of the outbox entry, opaque
--     detail       what a report of the session tells of the answer, opaque; kept behind the duplicate key's result
--     ticks        b numbers: of each board, clamped
-- Returns one text per answer, in order: status|points|occurred_at_us|seq|correct|packed|rank
--   status: counted | repeat | or a code of contracts/errors.py: stale, session_sealed, session_ended,
--           question_closed, session_quiz_mismatch, points_overflow, outbox_full, invalid_field
--   packed is the total on rank_board as digits ('' if none), rank counts from 1 (0 if none).
-- A repeat finds its field and gets the first result back; nothing is written for it.
-- Step 1 reads everything, one call a key; step 2 judges (a wrong type or number fails in these, before any write);
-- step 3 only writes, one call a key. A script is not rolled back by an error, so no check may stand in step 3. The first
-- line of this file makes a server that may not write (memory, disk, replicas) refuse before step 1.
-- Packed scores stay doubles and are printed with %.0f: tostring and `..` keep 14 digits.

local TICK_SPAN = 4194304            -- 2^22
local POINTS_MAX = 2147483647        -- 2^31 - 1
local AT_ONCE = 1000                 -- members a call: Lua's stack takes some thousands

local call, format, floor, find = redis.call, string.format, math.floor, string.find

local function digits(x) return format('%.0f', x) end

-- integer in [0, limit], or nil
local function whole(text, limit)
  local x = tonumber(text)
  if x == nil or x ~= floor(x) or x < 0 or x > limit then return nil end
  return x
end

-- A command with any number of further arguments, in calls of at most AT_ONCE (an even number, so pairs stay together);
-- each reply's items go to the end of `found`, if there is one.
local function in_parts(command, key, items, found)
  for from = 1, #items, AT_ONCE do
    local reply = call(command, key, unpack(items, from, math.min(from + AT_ONCE - 1, #items)))
    if found then
      for i = 1, #reply do found[from + i - 1] = reply[i] end
    end
  end
end

local seq = tonumber(call('GET', KEYS[2]) or '0')
local room = tonumber(ARGV[2]) - call('XLEN', KEYS[1])
call('ZCARD', KEYS[3])   -- a wrong type fails here, before any write
local last = call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] and last[1][1] ~= digits(seq) .. '-0' then
  return redis.error_reply('OUTBOX_DISAGREES last entry ' .. last[1][1] .. ' but counter ' .. digits(seq))
end

-- Step 1: read. A key is named by its index in KEYS.
local runs = {}
local sessions = {}   -- session -> its state, epoch, question, deadline, quiz and counters
local fields = {}     -- answers -> the fields that are looked for
local users = {}      -- board -> the users whose totals are looked for
local totals = {}     -- board -> user -> packed, as if the batch so far were written; false: not on it
local at = 3
for r = 1, tonumber(ARGV[1]) do
  local run = {
    mode = ARGV[at], session = tonumber(ARGV[at + 1]), answers = tonumber(ARGV[at + 2]), session_id = ARGV[at + 3],
    quiz_id = ARGV[at + 4], epoch = ARGV[at + 5], type = ARGV[at + 6], rank_board = tonumber(ARGV[at + 7]),
    handlers = tonumber(ARGV[at + 8]), channel = ARGV[at + 9], handler = ARGV[at + 10], boards = {},
  }
  local boards = tonumber(ARGV[at + 11])
  at = at + 12
  for b = 1, boards do
    run.boards[b] = tonumber(ARGV[at])
    at = at + 1
  end
  run.n = tonumber(ARGV[at])
  run.first = at + 1
  run.size = 8 + boards
  at = run.first + run.n * run.size
  runs[r] = run
  if not sessions[run.session] then
    local f = call('HMGET', KEYS[run.session],
      'state', 'epoch', 'question_id', 'deadline_us', 'quiz_id', 'version', 'answered')
    sessions[run.session] = {
      state = f[1], epoch = f[2], question_id = f[3], deadline = tonumber(f[4] or ''), quiz_id = f[5],
      version = tonumber(f[6] or '') or 0, answered = tonumber(f[7] or '') or 0, counted = 0, live = 0,
    }
  end
  local session = sessions[run.session]
  if run.handlers > 0 and session.channel == nil then
    local those = call('SCARD', KEYS[run.handlers])
    local others = those > 1 or (those == 1 and call('SISMEMBER', KEYS[run.handlers], run.handler) == 0)
    session.channel = others and run.channel or false
  end
  local wanted = fields[run.answers]
  if wanted == nil then wanted = {}; fields[run.answers] = wanted end
  for b = 1, boards do
    local board = run.boards[b]
    if users[board] == nil then users[board] = {}; totals[board] = {} end
  end
  for p = run.first, at - 1, run.size do
    local user = ARGV[p + 2]
    if run.mode ~= 'late' then wanted[#wanted + 1] = ARGV[p] end
    for b = 1, boards do
      local board = run.boards[b]
      if totals[board][user] == nil then
        totals[board][user] = false
        local those = users[board]
        those[#those + 1] = user
      end
    end
  end
end
local kept = {}   -- answers -> field -> the first result's text; false: none; true: counted in this batch
for answers, wanted in pairs(fields) do
  local found, by_field = {}, {}
  in_parts('HMGET', KEYS[answers], wanted, found)
  for i = 1, #wanted do by_field[wanted[i]] = found[i] or false end
  kept[answers] = by_field
end
for board, those in pairs(users) do
  local found, packed = {}, totals[board]
  in_parts('ZMSCORE', KEYS[board], those, found)
  for i = 1, #those do packed[those[i]] = found[i] and tonumber(found[i]) or false end
end

-- Step 2: judge, in order.
local function added(packed, points, ticks)
  if not packed then
    if points == 0 then return 0 end
    return points * TICK_SPAN + (TICK_SPAN - 1 - ticks)
  end
  if points == 0 then return packed end
  local old_points = floor(packed / TICK_SPAN)
  if old_points > 0 then
    local old_ticks = TICK_SPAN - 1 - (packed % TICK_SPAN)
    if old_ticks > ticks then ticks = old_ticks end
  end
  return (old_points + points) * TICK_SPAN + (TICK_SPAN - 1 - ticks)
end

local function refusal(run, session)
  if run.mode == 'late' then return nil end
  if not session.state then return 'stale' end
  if session.state == 'sealed' then return 'session_sealed' end
  if session.quiz_id ~= run.quiz_id then return 'session_quiz_mismatch' end
  return nil
end

local function live_refusal(run, session, question_id, occurred)
  if run.mode ~= 'live' then return nil end
  if session.state == 'ended' then return 'session_ended' end
  if session.epoch ~= run.epoch then return 'stale' end
  -- A challenge is open from its creation to its end; the caller has judged the question's own time.
  if session.state ~= 'open' then
    if session.state ~= 'question' then return 'question_closed' end
    if session.question_id ~= question_id then return 'question_closed' end
  end
  if session.deadline and occurred > session.deadline then return 'question_closed' end
  return nil
end

local replies, planned = {}, 0
local outbox = {}          -- seq, type, event, mode of each entry, in order
local results = {}         -- answers -> field, text, field, text …
local moved = {}           -- board -> user -> true
local batch_results = {}   -- answers -> field -> 'points|occurred_at_us|seq|correct' of what this batch counts
for r = 1, #runs do
  local run = runs[r]
  local session, boards = sessions[run.session], run.boards
  local b = #boards
  local refused = refusal(run, session)
  local by_field = kept[run.answers]
  for p = run.first, run.first + (run.n - 1) * run.size, run.size do
    local field, question_id, user = ARGV[p], ARGV[p + 1], ARGV[p + 2]
    local points, occurred_text, correct = whole(ARGV[p + 3], POINTS_MAX), ARGV[p + 4], ARGV[p + 5]
    local occurred = whole(occurred_text, 2^53)
    local holds = points ~= nil and occurred ~= nil and (correct == '0' or correct == '1')
    local ticks = {}
    for i = 1, b do
      ticks[i] = whole(ARGV[p + 7 + i], TICK_SPAN - 1)
      if ticks[i] == nil then holds = false end
    end
    local status, first
    if not holds then
      status = 'invalid_field'
    elseif refused then
      status = refused
    else
      first = batch_results[run.answers] and batch_results[run.answers][field]
      if not first and run.mode ~= 'late' and by_field[field] then
        local _, stop = find(by_field[field], '^%d+|%d+|%d+|[01]')
        first = string.sub(by_field[field], 1, stop)
      end
      if not first then
        status = live_refusal(run, session, question_id, occurred)
        if not status and planned >= room then status = 'outbox_full' end
        if not status then
          for i = 1, b do
            local packed = totals[boards[i]][user]
            if packed and floor(packed / TICK_SPAN) + points > POINTS_MAX then status = 'points_overflow' end
          end
        end
      end
    end
    local reply
    if status then
      reply = status .. '|0|0|0|0'
    elseif first then
      reply = 'repeat|' .. first
    else
      planned, seq = planned + 1, seq + 1
      local seq_text = digits(seq)
      local result = digits(points) .. '|' .. occurred_text .. '|' .. seq_text .. '|' .. correct
      reply = 'counted|' .. result
      batch_results[run.answers] = batch_results[run.answers] or {}
      batch_results[run.answers][field] = result
      local o = #outbox
      outbox[o + 1], outbox[o + 2], outbox[o + 3], outbox[o + 4] = seq_text .. '-0', run.type, ARGV[p + 6], run.mode
      if run.mode ~= 'late' then
        session.counted = session.counted + 1
        if run.mode == 'live' then session.live = session.live + 1 end
        local those = results[run.answers]
        if those == nil then those = {}; results[run.answers] = those end
        local detail = ARGV[p + 7]
        those[#those + 1] = field
        those[#those + 1] = detail ~= '' and result .. '|' .. detail or result
        for i = 1, b do
          local board = boards[i]
          totals[board][user] = added(totals[board][user], points, ticks[i])
          if moved[board] == nil then moved[board] = {} end
          moved[board][user] = true
        end
      end
    end
    replies[#replies + 1] = reply
  end
end

-- Step 3: write. Board totals were summed above, so each (board, user) is written once.
for o = 1, #outbox, 4 do
  call('XADD', KEYS[1], outbox[o], 't', outbox[o + 1], 'e', outbox[o + 2], 'm', outbox[o + 3])
end
for answers, pairs_of in pairs(results) do in_parts('HSET', KEYS[answers], pairs_of) end
for board, those in pairs(moved) do
  local flat, packed, n = {}, totals[board], 0
  for user in pairs(those) do
    flat[n + 1], flat[n + 2] = digits(packed[user]), user
    n = n + 2
  end
  in_parts('ZADD', KEYS[board], flat)
end
if planned > 0 then
  call('SET', KEYS[2], digits(seq))
  local now = call('TIME')
  local now_us = digits(tonumber(now[1]) * 1000000 + tonumber(now[2]))
  local touched, idle = {}, {}
  for r = 1, #runs do
    local run = runs[r]
    local session = sessions[run.session]
    if session.counted > 0 and not touched[run.session] then
      touched[run.session] = true
      -- version: what pushes are numbered by. answered: of the question shown; a move to the next sets it to 0.
      if session.live > 0 then
        call('HSET', KEYS[run.session], 'last_write_us', now_us, 'version', digits(session.version + 1),
          'answered', digits(session.answered + session.live))
      else
        call('HSET', KEYS[run.session], 'last_write_us', now_us, 'version', digits(session.version + 1))
      end
      idle[#idle + 1], idle[#idle + 2] = now_us, run.session_id
      if session.channel then call('PUBLISH', session.channel, 'answers') end
    end
  end
  if #idle > 0 then in_parts('ZADD', KEYS[3], idle) end
end
local i = 0
for r = 1, #runs do
  local run = runs[r]
  for p = run.first, run.first + (run.n - 1) * run.size, run.size do
    i = i + 1
    local packed, rank = '', '0'
    if run.rank_board > 0 then
      local user = ARGV[p + 2]
      local place = call('ZREVRANK', KEYS[run.rank_board], user)
      if place then
        local total = totals[run.rank_board] and totals[run.rank_board][user]
        packed = total and digits(total) or digits(tonumber(call('ZSCORE', KEYS[run.rank_board], user)))
        rank = digits(place + 1)
      end
    end
    replies[i] = replies[i] .. '|' .. packed .. '|' .. rank
  end
end
return replies
