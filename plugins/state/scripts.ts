/** The scripts of values and tallies on Redis: each but the look-up decides and changes one key in one step. */
import { createHash } from 'node:crypto'

export interface Script { lua: string, sha: string }

export const script = (lua: string): Script => ({ lua, sha: createHash('sha1').update(lua).digest('hex') })

/** The values of all keys, as JSON: one text is read faster than many. As many at once as Lua can pass on. */
export const LOOK_UP = script(`
local found = {}
for first = 1, #KEYS, 1000 do
  for _, value in ipairs(redis.call('MGET', unpack(KEYS, first, math.min(first + 999, #KEYS)))) do found[#found + 1] = value or cjson.null end
end
return cjson.encode(found)
`)

/** Compare-and-swap. ARGV: expected, next, milliseconds. */
export const SWAP = script(`
local known = redis.call('GET', KEYS[1])
if not known then return 'missing' end
if known ~= ARGV[1] then return 'mismatch' end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 'swapped'
`)

/** ARGV: floor, milliseconds. */
export const RAISE = script(`
local known = tonumber(redis.call('GET', KEYS[1]) or 0)
if not known then return redis.error_reply('BASTION raise was called on what is no number') end
local next = string.format('%.0f', math.max(known + 1, tonumber(ARGV[1])))
redis.call('SET', KEYS[1], next, 'PX', ARGV[2])
return next
`)

/** ARGV: by, milliseconds. */
export const ADD = script(`
local kept = redis.call('GET', KEYS[1])
local count = math.max(0, (kept or 0) + ARGV[1])
if count == 0 then
  redis.call('DEL', KEYS[1])
elseif kept then
  redis.call('SET', KEYS[1], string.format('%.0f', count), 'KEEPTTL')
  return { count, redis.call('PTTL', KEYS[1]) }
else
  redis.call('SET', KEYS[1], string.format('%.0f', count), 'PX', ARGV[2])
end
return { count, tonumber(ARGV[2]) }
`)

/** ARGV: member, most members, milliseconds. */
export const JOIN = script(`
local count = redis.call('SCARD', KEYS[1])
if count < tonumber(ARGV[2]) then count = count + redis.call('SADD', KEYS[1], ARGV[1]) end
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return count
`)
