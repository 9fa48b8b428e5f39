package redis

import "github.com/redis/go-redis/v9"

// declareScript leaves the mark of the first declarations and returns the entities in which others differ.
//
//	KEYS: declarations hash
//	ARGV: entity, digest, …
var declareScript = redis.NewScript(`
local mine = {}
for i = 1, #ARGV, 2 do mine[ARGV[i]] = ARGV[i + 1] end
local stored = redis.call('HGETALL', KEYS[1])
if #stored == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV))
  return {}
end
local differ = {}
for i = 1, #stored, 2 do
  if mine[stored[i]] ~= stored[i + 1] then differ[#differ + 1] = stored[i] end
  mine[stored[i]] = nil
end
for i = 1, #ARGV, 2 do
  if mine[ARGV[i]] then differ[#differ + 1] = ARGV[i] end
end
return differ
`)

// claimScript raises the epoch and leaves the new owner's token.
//
//	KEYS: partition hash, quarantine hash, set of partitions
//	ARGV: token, partition as listed
//	returns epoch, next (-1 if there is none), quarantined keys and offsets
var claimScript = redis.NewScript(`
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
return {epoch, redis.call('HGET', KEYS[1], 'next') or '-1', redis.call('HGETALL', KEYS[2])}
`)

// commitScript applies a batch, or a part of one.
//
//	KEYS: partition hash, quarantine hash, names of states, names of floors, names of values and leases
//	ARGV: epoch, owner's token ('' for any), from, next ('' if more parts follow), number of states, number of marks, number of floors,
//	      of each state its version in 19 digits and its bytes, of each mark the key and what becomes of it (see marksOf),
//	      of each floor its version in 19 digits
//	returns OK; or GONE, FENCED, POSITION and what is stored
//
// Promise 4: epoch and position are checked in the script that writes; nothing comes between.
var commitScript = redis.NewScript(`
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'next')
if not stored[1] then return {'GONE', ''} end
if stored[1] ~= ARGV[1] or (ARGV[2] ~= '' and stored[2] ~= ARGV[2]) then return {'FENCED', stored[1]} end
if stored[3] and stored[3] ~= ARGV[3] then return {'POSITION', stored[3]} end
local states, marks, floors = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
for i = 0, floors - 1 do
  local key, least = KEYS[3 + states + i], ARGV[8 + 2 * states + 2 * marks + i]
  local have = redis.call('GET', key)
  if not have or have < least then redis.call('SET', key, least) end
end
for i = 3 + states + floors, #KEYS do redis.call('UNLINK', KEYS[i]) end
for i = 0, states - 1 do
  local version, key = ARGV[8 + 2 * i], KEYS[3 + i]
  local have = redis.call('GETRANGE', key, 0, 18)
  if have == '' or have < version then redis.call('SET', key, version .. ARGV[9 + 2 * i]) end
end
local first = 8 + 2 * states
for i = 0, marks - 1 do
  local key, mark = ARGV[first + 2 * i], ARGV[first + 1 + 2 * i]
  local how, offset = string.sub(mark, 1, 1), string.sub(mark, 2)
  if how == '' then redis.call('HDEL', KEYS[2], key)
  elseif how == '=' then redis.call('HSET', KEYS[2], key, offset)
  else redis.call('HSETNX', KEYS[2], key, offset) end
end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'next', ARGV[4]) end
return {'OK', ''}
`)
