/**
 * The scripts of state on Redis. Each works on one key (a counter's ban on a second one beside it, with the same hash tag),
 * decides and changes in one step, and takes its time from the server.
 */
import { createHash } from 'node:crypto'

export interface Script { lua: string, sha: string }

const script = (lua: string): Script => ({ lua, sha: createHash('sha1').update(lua).digest('hex') })

/**
 * What both kinds of counters begin with. ARGV: time (empty: the server's), cost, whether it counts, algorithm, strikes
 * to a ban (0: none) and its milliseconds, then limit and milliseconds of each window.
 *
 * KEYS[2] holds a ban, or the strikes that lead to one: `strikes since`, where 0 strikes are a ban that began then.
 */
const COUNTER = `
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local cost, counts, algorithm = tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local banAfter, banMs = tonumber(ARGV[5]), tonumber(ARGV[6])
local windows = (#ARGV - 6) / 2
local function limitOf(w) return tonumber(ARGV[5 + 2 * w]) end
local function msOf(w) return tonumber(ARGV[6 + 2 * w]) end

local strikes, since = 0, now
if banAfter > 0 then
  local kept = redis.call('GET', KEYS[2])
  if kept then
    strikes, since = kept:match('^(%d+) (%d+)$')
    strikes, since = tonumber(strikes), math.min(tonumber(since), now)
    local left = since + banMs - now
    if left <= 0 then
      strikes, since = 0, now
    elseif strikes == 0 then
      return { 0, 0, 0, left, left, 1, 0 }
    end
  end
end

local function refuse(window, reset, retry, violated)
  if banAfter > 0 and counts then
    strikes = strikes + 1
    if strikes >= banAfter then
      strikes, since = 0, now
      retry = math.max(retry, banMs)
      reset = math.max(reset, banMs)
    end
    redis.call('SET', KEYS[2], string.format('%.0f %.0f', strikes, since), 'PX', since + banMs - now)
    if strikes == 0 then return { 0, window, 0, reset, retry, 1, violated } end
  end
  return { 0, window, 0, reset, retry, 0, violated }
end
`

/**
 * Fixed and sliding windows and token buckets, three numbers a window: when it began, what was counted in it, what in
 * the one before; of a bucket when it was looked at, and what is used of it in requests × milliseconds.
 */
export const COUNT = script(`${COUNTER}
local slides, fills = algorithm == 'sliding', algorithm == 'bucket'
local raw = redis.call('GET', KEYS[1])
local kept = raw and cmsgpack.unpack(raw) or {}
local nearest, nearestLeft, nearestReset = 1, math.huge, 0
local refused, refusedReset, retry, violated, ttl = 0, 0, 0, 0, 0

for w = 1, windows do
  local limit, ms = limitOf(w), msOf(w)
  local i = 3 * w
  local start, current, previous = kept[i - 2] or now, kept[i - 1] or 0, kept[i] or 0
  local elapsed = now - start
  local room, reset
  if fills then
    if elapsed > 0 then current = math.max(0, current - limit * elapsed) end
    start = now
    room = (limit - cost) * ms - current
    reset = math.ceil((room < 0 and current or current + cost * ms) / limit)
  else
    if elapsed < 0 then
      start = now
    elseif elapsed >= ms then
      previous = slides and elapsed < 2 * ms and current or 0
      current = 0
      start = previous == 0 and now or start + ms
    elseif current == 0 and previous == 0 then
      start = now
    end
    local untilNext = ms - (now - start)
    room = (limit - cost - current) * ms - previous * untilNext
    reset = untilNext
    if slides and (room >= 0 or current > 0) then reset = untilNext + ms end
  end

  if room < 0 then
    local wait
    local cap = limit - cost
    local untilNext = ms - (now - start)
    if cap < 0 then
      wait = ms
    elseif fills then
      wait = math.ceil(-room / limit)
    elseif not slides then
      wait = untilNext
    elseif current <= cap then
      wait = math.ceil(untilNext - math.floor((cap - current) * ms / previous))
    else
      wait = math.ceil(untilNext + ms - math.floor(cap * ms / current))
    end
    violated = violated + 2 ^ (w - 1)
    if refused == 0 or wait > retry then refused, refusedReset, retry = w, reset, wait end
  elseif room / ms < nearestLeft then
    nearest, nearestLeft, nearestReset = w, room / ms, reset
  end
  kept[i - 2], kept[i - 1], kept[i] = start, current + (fills and cost * ms or cost), previous
  ttl = math.max(ttl, slides and 2 * ms or ms)
end

if refused > 0 then return refuse(refused - 1, refusedReset, retry, violated) end
if counts then redis.call('SET', KEYS[1], cmsgpack.pack(kept), 'PX', ttl) end
return { 1, nearest - 1, math.floor(nearestLeft), nearestReset, 0, 0, 0 }
`)

/** Exact logs: a sorted set of the time of each unit of cost. */
export const LOG = script(`${COUNTER}
local key = KEYS[1]
local widest = 0
for w = 1, windows do widest = math.max(widest, msOf(w)) end

local function add(count)
  local seq = redis.call('ZCOUNT', key, now, now)
  local stamp = string.format('%.0f', now)
  for unit = 1, count do redis.call('ZADD', key, stamp, stamp .. ':' .. (seq + unit)) end
end

-- A clock that was set back: what came later than now came now.
local ahead = redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now), '+inf')
if ahead > 0 then
  redis.call('ZREMRANGEBYSCORE', key, '(' .. string.format('%.0f', now), '+inf')
  add(ahead)
  redis.call('PEXPIRE', key, widest)
end
redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - widest))
local total = redis.call('ZCARD', key)
local nearest, nearestLeft, nearestReset = 1, math.huge, 0
local refused, refusedReset, retry, violated = 0, 0, 0, 0

local function timeAt(rank) return tonumber(redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')[2]) end

for w = 1, windows do
  local limit, ms = limitOf(w), msOf(w)
  local count = ms == widest and total or redis.call('ZCOUNT', key, '(' .. string.format('%.0f', now - ms), '+inf')
  local left = limit - cost - count
  if left < 0 then
    local wait = ms
    if limit >= cost then wait = timeAt(total - count - left - 1) + ms - now end
    violated = violated + 2 ^ (w - 1)
    local reset = count > 0 and timeAt(total - 1) + ms - now or 0
    if refused == 0 or wait > retry then refused, refusedReset, retry = w, reset, wait end
  elseif left < nearestLeft then
    nearest, nearestLeft, nearestReset = w, left, ms
  end
end

if refused > 0 then return refuse(refused - 1, refusedReset, retry, violated) end
if counts then
  add(cost)
  redis.call('PEXPIRE', key, widest)
end
return { 1, nearest - 1, nearestLeft, nearestReset, 0, 0, 0 }
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
