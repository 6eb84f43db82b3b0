#!lua flags=allow-oom
-- First step of sealing: mark a quiet session so that record_answers refuses it from now on.
-- KEYS[1] session hash   KEYS[2] outbox seq counter   KEYS[3] sessions by last write (sorted set)
-- ARGV[1] quiet since, µs: a session written to after this instant is left alone, and a challenge that is open until then
-- ARGV[2] session_id
-- Returns {'sealed', seq} (every entry of the session has a seq <= this), {'active', '0'} or {'gone', '0'}.
-- A repeat marks again and returns a later seq, which is as safe.
local written = redis.call('HGET', KEYS[1], 'last_write_us')
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return {'gone', '0'} end
if state ~= 'sealed' and written and tonumber(written) > tonumber(ARGV[1]) then return {'active', '0'} end
if state == 'open' then
  local deadline = redis.call('HGET', KEYS[1], 'deadline_us')
  if tonumber(deadline) > tonumber(ARGV[1]) then
    -- Out of the way of sessions that can be sealed: it counts as written to when it ends.
    redis.call('ZADD', KEYS[3], 'GT', deadline, ARGV[2])
    return {'active', '0'}
  end
end
redis.call('HSET', KEYS[1], 'state', 'sealed')
return {'sealed', redis.call('GET', KEYS[2]) or '0'}
