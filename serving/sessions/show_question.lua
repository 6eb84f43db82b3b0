#!lua
-- Move one player of a challenge to the next question, if their place is still the one it was decided on.
-- KEYS[1] session hash   KEYS[2] places of its players (hash)
-- ARGV[1] the epoch it was decided on   ARGV[2] user   ARGV[3] the place it was decided on ('' none)   ARGV[4] the next
-- Returns {1, place} if moved, {0, place} if the place or the epoch is another: then nothing was written.
-- A repeat finds the place moved and gets it back: the question's time does not begin again.
local place = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'state') ~= 'open' then
  return {0, place}
end
if place ~= ARGV[3] then return {0, place} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
return {1, ARGV[4]}
