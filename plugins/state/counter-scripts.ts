/**
 * The scripts of counters on Redis: one a policy, with its numbers written into it, so that a decision sends nothing but
 * who asks. Time is the server's.
 *
 * One call makes many decisions. KEYS of each: the counter and, with bans, what is known of those, beside it under the same hash tag. ARGV of
 * each, or none at all: cost, time (empty: the server's). Answers JSON, because one text is read faster than many numbers; of each decision window,
 * remaining and reset where it passes; where it does not also retry, the windows that refuse (a bit each) and whether that is a ban. Null where
 * the server has no memory left for it, which is no reason for others to pass.
 */
import type { Algorithm, Ban, Window } from './port.js'
import { script, type Script } from './scripts.js'

export interface CounterScript {
  windows: readonly Window[]
  algorithm: Algorithm
  ban: Ban | undefined
  /** False for a look that counts nothing. */
  counts: boolean
  /** Milliseconds that a key lives at least; 0 where the time is the server's own. */
  minTtl: number
}

export function counterScript (policy: CounterScript): Script {
  const { algorithm, ban } = policy
  return script(`${BEGIN}${ban === undefined ? '' : banned(ban, policy)}${algorithm === 'log' ? log(policy) : windowed(policy)}${endOf(policy)}`)
}

const BEGIN = `local call, format = redis.call, string.format
local function decide (key, banKey, cost, now)
local refused, refusedReset, retry, violated = -1, 0, 0, 0
local nearest, nearestLeft, nearestReset = 0, math.huge, 0
`

const endOf = ({ ban }: CounterScript): string => `
end
local time = call('TIME')
time = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #KEYS / ${ban === undefined ? 1 : 2} do
  local key, banKey = ${ban === undefined ? 'KEYS[i]' : 'KEYS[2 * i - 1], KEYS[2 * i]'}
  local isDone, answer = pcall(decide, key, banKey, tonumber(ARGV[2 * i - 1] or 1), tonumber(ARGV[2 * i] or time) or time)
  if not isDone and not string.find(type(answer) == 'table' and answer.err or answer, 'OOM', 1, true) then error(answer, 0) end
  answers[i] = isDone and answer or 'null'
end
return '[' .. table.concat(answers, ',') .. ']'
`

/** What is kept of a ban: strikes and since when; no strikes are a ban that began then. */
const banned = ({ ms }: Ban, { counts, minTtl }: CounterScript): string => `
local strikes, since, left = 0, now, 0
local function keep () call('SET', banKey, struct.pack('<dd', strikes, since), 'PX', math.max(since + ${ms} - now, ${minTtl})) end
local kept = call('GET', banKey)
if kept then
  strikes, since = struct.unpack('<dd', kept)
  if since > now then
    since = now
    ${counts ? 'keep()' : ''}
  end
  left = since + ${ms} - now
  if left <= 0 then strikes, since, left = 0, now, 0 elseif strikes > 0 then left = 0 end
end
`

/** The end of a script: `passed` is what it does and answers where no window refuses, `turned` what it keeps first where the clock was set back. */
const end = ({ ban, counts }: CounterScript, passed: string, turned = ''): string => `
${counts ? turned : ''}
${ban === undefined
? ''
: `
if left > 0 then
  if refused == -1 then refused = nearest end
  return format('[%d,%d,%d,%d,%d,%d]', refused, 0, math.max(refusedReset, left), math.max(retry, left), violated, 1)
end`}
if refused == -1 then
${passed}
end
${ban === undefined || !counts
? ''
: `
strikes = strikes + 1
if strikes >= ${ban.after} then
  strikes, since = 0, now
  keep()
  return format('[%d,%d,%d,%d,%d,%d]', refused, 0, math.max(refusedReset, ${ban.ms}), math.max(retry, ${ban.ms}), violated, 1)
end
keep()
`}return format('[%d,%d,%d,%d,%d,%d]', refused, 0, refusedReset, retry, violated, 0)
`

/** What a window says once its `room` (or the room in a log) and its `reset` are known. */
const judged = (index: number, left: string, wait: string): string => `
if room < 0 then
  ${wait}
  violated = violated + ${2 ** index}
  if wait > retry or refused == -1 then refused, refusedReset, retry = ${index}, reset, wait end
elseif ${left} < nearestLeft then
  nearest, nearestLeft, nearestReset = ${index}, ${left}, reset
end
`

/**
 * Fixed and sliding windows and token buckets: three numbers a window. When it began, what was counted in it, what in
 * the one before; of a bucket when it was looked at, and what is used of it in requests × milliseconds.
 */
function windowed (policy: CounterScript): string {
  const { windows, algorithm, counts, minTtl } = policy
  const names = windows.map((_window, w) => `s${w}, c${w}, p${w}`).join(', ')
  const format = `<${'d'.repeat(windows.length * 3)}`
  const ttl = Math.max(minTtl, ...windows.map(({ ms }) => algorithm === 'sliding' ? 2 * ms : ms))
  const kept = (values: string, life = `'PX', ${ttl}`) => `call('SET', key, struct.pack('${format}', ${values}), ${life})`
  // A key lives on from where its windows began: it is given a new life with a new window, which is the dearer command.
  const began = windows.map((_window, w) => `s${w} == b${w}`).join(' and ')
  const spent = windows.map(({ ms }, w) => `s${w}, c${w} + ${algorithm === 'bucket' ? `cost * ${ms}` : 'cost'}, p${w}`).join(', ')
  return `
local raw = call('GET', key)
local ${names} = ${windows.map(() => 'now, 0, 0').join(', ')}
if raw then ${names} = struct.unpack('${format}', raw) end
local room, reset, wait
local ${windows.map((_window, w) => `b${w}`).join(', ')} = ${windows.map((_window, w) => `s${w}`).join(', ')}
local turned = ${windows.map((_window, w) => `now < s${w}`).join(' or ')}
${windows.map(algorithm === 'bucket' ? bucket : algorithm === 'fixed' ? fixed : sliding).join('')}
${end(policy, `${counts ? `if raw and ${began} then ${kept(spent, "'KEEPTTL'")} else ${kept(spent)} end` : ''}
return format('[%d,%d,%d]', nearest, nearestLeft, nearestReset)`, `if turned then ${kept(names)} end`)}`
}

function fixed ({ limit, ms }: Window, w: number): string {
  return `
if now - s${w} >= ${ms} then s${w}, c${w} = now, 0 elseif now < s${w} or c${w} == 0 then s${w} = now end
room = ${limit} - cost - c${w}
reset = ${ms} - now + s${w}
${judged(w, 'room', `wait = cost > ${limit} and ${ms} or reset`)}`
}

function sliding ({ limit, ms }: Window, w: number): string {
  return `
local e${w} = now - s${w}
if e${w} >= ${ms} then
  p${w} = e${w} < ${2 * ms} and c${w} or 0
  c${w} = 0
  s${w} = p${w} == 0 and now or s${w} + ${ms}
elseif e${w} < 0 or (c${w} == 0 and p${w} == 0) then
  s${w} = now
end
local u${w} = ${ms} - now + s${w}
room = (${limit} - cost - c${w}) * ${ms} - p${w} * u${w}
reset = (room >= 0 or c${w} > 0) and u${w} + ${ms} or u${w}
${judged(w, `room / ${ms}`, `
  if cost > ${limit} then wait = ${ms}
  elseif c${w} <= ${limit} - cost then wait = math.ceil(u${w} - math.floor((${limit} - cost - c${w}) * ${ms} / p${w}))
  else wait = math.ceil(u${w} + ${ms} - math.floor((${limit} - cost) * ${ms} / c${w})) end`)}`
}

function bucket ({ limit, ms }: Window, w: number): string {
  return `
if now > s${w} then c${w} = math.max(0, c${w} - ${limit} * (now - s${w})) end
s${w} = now
room = (${limit} - cost) * ${ms} - c${w}
reset = math.ceil((room < 0 and c${w} or c${w} + cost * ${ms}) / ${limit})
${judged(w, `room / ${ms}`, `wait = cost > ${limit} and ${ms} or math.ceil(-room / ${limit})`)}`
}

/** Exact logs: a sorted set of the time of each unit of cost. */
function log (policy: CounterScript): string {
  const { windows, counts, minTtl } = policy
  const widest = Math.max(...windows.map(({ ms }) => ms))
  return `
local function stamp (time) return format('%.0f', time) end
local function add (count)
  local seq = call('ZCOUNT', key, stamp(now), stamp(now))
  for unit = 1, count do call('ZADD', key, stamp(now), stamp(now) .. ':' .. (seq + unit)) end
  call('PEXPIRE', key, ${Math.max(widest, minTtl)})
end
local function timeAt (rank) return tonumber(call('ZRANGE', key, rank, rank, 'WITHSCORES')[2]) end

-- A clock that was set back: what came later than now came now.
local ahead = call('ZCOUNT', key, '(' .. stamp(now), '+inf')
if ahead > 0 then
  call('ZREMRANGEBYSCORE', key, '(' .. stamp(now), '+inf')
  add(ahead)
end
call('ZREMRANGEBYSCORE', key, '-inf', stamp(now - ${widest}))
local total = call('ZCARD', key)
local count, room, reset, wait
${windows.map(({ limit, ms }, w) => `
count = ${ms === widest ? 'total' : `call('ZCOUNT', key, '(' .. stamp(now - ${ms}), '+inf')`}
room = ${limit} - cost - count
reset = ${ms}
if room < 0 then reset = count > 0 and timeAt(total - 1) + ${ms} - now or 0 end
${judged(w, 'room', `wait = cost > ${limit} and ${ms} or timeAt(total - count - room - 1) + ${ms} - now`)}`).join('')}
${end(policy, `${counts ? 'add(cost)' : ''}
return format('[%d,%d,%d]', nearest, nearestLeft, nearestReset)`)}`
}
