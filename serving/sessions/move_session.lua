-- Move a session to its next state, if nobody moved it first.
-- KEYS[1] session hash
-- ARGV[1] the epoch the move was decided on; then pairs of field and value
-- Returns 1 if moved, 0 if the epoch is another (a repeat of a done move too: it changes nothing) or the session is
-- being sealed (a seal keeps the epoch: the move would open it again), -1 if unknown.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return -1 end
if epoch ~= ARGV[1] or redis.call('HGET', KEYS[1], 'state') == 'sealed' then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
