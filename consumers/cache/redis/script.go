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
//	KEYS: partition hash, quarantine hash, set of partitions, pointer
//	ARGV: token, partition as listed, the generation if it is known to serve ('' if not)
//	returns epoch, next (-1 if there is none), quarantined keys and offsets
var claimScript = redis.NewScript(`
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
if ARGV[3] ~= '' then redis.call('SETNX', KEYS[4], ARGV[3]) end
return {epoch, redis.call('HGET', KEYS[1], 'next') or '-1', redis.call('HGETALL', KEYS[2])}
`)

// commitScript applies a batch, or a part of one.
//
//	KEYS: partition hash, quarantine hash, pointer, names of states, names of floors, names of values and leases
//	ARGV: epoch, owner's token ('' for any), from, next ('' if more parts follow), number of states, number of marks, number of floors,
//	      the generation if it is known to serve ('' if not), 'replace' if states of an equal version are replaced,
//	      the name of the part before that has to be done ('' for none), the name that this one leaves ('' for none),
//	      of each state its version in 19 digits and its bytes behind it, of each mark the key and what becomes of it (see marksOf),
//	      of each floor its version in 19 digits
//	returns OK and the pointer; or GONE, FENCED, POSITION, BEFORE and what is stored
//
// Promise 4: epoch and position are checked in the script that writes; nothing comes between. Parts are sent without waiting for each other, and none does
// anything unless the one before it is done.
var commitScript = redis.NewScript(`
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'owner', 'next', 'part')
if not stored[1] then return {'GONE', ''} end
if stored[1] ~= ARGV[1] or (ARGV[2] ~= '' and stored[2] ~= ARGV[2]) then return {'FENCED', stored[1]} end
if stored[3] and stored[3] ~= ARGV[3] then return {'POSITION', stored[3]} end
if ARGV[10] ~= '' and stored[4] ~= ARGV[10] then return {'BEFORE', stored[4] or ''} end
if ARGV[8] ~= '' then redis.call('SETNX', KEYS[3], ARGV[8]) end
local states, marks, floors = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
for i = 0, floors - 1 do
  local key, least = KEYS[4 + states + i], ARGV[12 + states + 2 * marks + i]
  local have = redis.call('GET', key)
  if not have or have < least then redis.call('SET', key, least) end
end
for i = 4 + states + floors, #KEYS, 500 do redis.call('UNLINK', unpack(KEYS, i, math.min(i + 499, #KEYS))) end
for i = 0, states - 1 do
  local state, key = ARGV[12 + i], KEYS[4 + i]
  local have, version = redis.call('GETRANGE', key, 0, 18), string.sub(state, 1, 19)
  if have == '' or have < version or (have == version and ARGV[9] ~= '') then redis.call('SET', key, state) end
end
local first = 12 + states
for i = 0, marks - 1 do
  local key, mark = ARGV[first + 2 * i], ARGV[first + 1 + 2 * i]
  local how, offset = string.sub(mark, 1, 1), string.sub(mark, 2)
  if how == '' then redis.call('HDEL', KEYS[2], key)
  elseif how == '=' then redis.call('HSET', KEYS[2], key, offset)
  else redis.call('HSETNX', KEYS[2], key, offset) end
end
if ARGV[11] ~= '' then redis.call('HSET', KEYS[1], 'part', ARGV[11])
elseif stored[4] then redis.call('HDEL', KEYS[1], 'part') end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'next', ARGV[4]) end
return {'OK', redis.call('GET', KEYS[3]) or ''}
`)

// serveScript moves the pointer, unless that would take readers back.
//
//	KEYS: pointer, set of the partitions of the generation that serves, of each of them that counts its hash there and its hash here
//	ARGV: this generation, the one that serves as it was read before, the number of its partitions
//	returns OK; AGAIN if it is not as it was read; BEHIND, the number of the first partition that is (from 1), and its positions there and here
//
// Promise 8: positions are compared in the script that moves the pointer.
var serveScript = redis.NewScript(`
local serving = redis.call('GET', KEYS[1]) or '1'
if serving ~= ARGV[1] then
  if serving ~= ARGV[2] or redis.call('SCARD', KEYS[2]) ~= tonumber(ARGV[3]) then return {'AGAIN'} end
  for i = 3, #KEYS, 2 do
    local theirs, ours = redis.call('HGET', KEYS[i], 'next'), redis.call('HGET', KEYS[i + 1], 'next')
    if theirs and (not ours or tonumber(ours) < tonumber(theirs)) then return {'BEHIND', tostring((i - 1) / 2), theirs, ours or 'none'} end
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return {'OK'}
`)

// removeScript removes keys of a generation that does not serve.
//
//	KEYS: pointer, names
//	ARGV: the generation
//	returns the number of keys that were there; -1 if it serves
var removeScript = redis.NewScript(`
if (redis.call('GET', KEYS[1]) or '1') == ARGV[1] then return -1 end
local n = 0
for i = 2, #KEYS do n = n + redis.call('UNLINK', KEYS[i]) end
return n
`)
