#!lua
-- Put the barriers of some (zone, day) pairs into this shard's outbox, each once.
-- KEYS[1] outbox   KEYS[2] outbox seq counter   KEYS[3] hash of the barriers written: field -> seq
-- ARGV[1] the entries' type, then pairs: field ('zone|day'), event bytes
-- Returns per pair {'written' | 'there', seq}. A repeat finds its field and writes nothing.
local function digits(x) return string.format('%.0f', x) end
local seq = tonumber(redis.call('GET', KEYS[2]) or '0')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if last[1] and last[1][1] ~= digits(seq) .. '-0' then
  return redis.error_reply('OUTBOX_DISAGREES last entry ' .. last[1][1] .. ' but counter ' .. digits(seq))
end
local replies = {}
for i = 2, #ARGV, 2 do
  local there = redis.call('HGET', KEYS[3], ARGV[i])
  if there then
    replies[#replies + 1] = {'there', there}
  else
    seq = seq + 1
    redis.call('XADD', KEYS[1], digits(seq) .. '-0', 't', ARGV[1], 'e', ARGV[i + 1], 'm', 'barrier')
    redis.call('SET', KEYS[2], digits(seq))
    redis.call('HSET', KEYS[3], ARGV[i], digits(seq))
    replies[#replies + 1] = {'written', digits(seq)}
  end
end
return replies
