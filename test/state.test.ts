/** State in memory: atomic, exact, bounded, and never forgetful of those who matter. */
import { randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t, { type Test } from 'tap'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import plan from '../plugins/plan/index.js'
import state, { StateFull, type CounterOptions, type Decision, type StateOptions } from '../plugins/state/index.js'

interface Built { app: FastifyInstance, clock: { ms: number }, recorded: SecurityEvent[] }

async function build (t: Test, options: StateOptions = {}): Promise<Built> {
  const clock = { ms: 1_700_000_000_000 }
  const recorded: SecurityEvent[] = []
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(state, { now: () => clock.ms, ...options })
  app.events.listen(event => { recorded.push(event) })
  return { app, clock, recorded }
}

/** The store in memory answers at once. */
const now = <T>(value: T | Promise<T>): T => {
  if (value instanceof Promise) throw new Error('the store in memory must not wait')
  return value
}

const take = (counter: ReturnType<FastifyInstance['state']['counter']>, subject = 'a', cost?: number): Decision => now(counter.take(subject, cost))

/** A small generator of its own, so that a run that fails can be run again. */
function randomFrom (seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let x = Math.imul(a ^ (a >>> 15), 1 | a)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
}

t.test('values live until their time is over, and not a millisecond longer', async t => {
  const { app: { state }, clock } = await build(t)
  t.equal(state.kind, 'memory')
  t.equal(state.get('k'), null)
  state.set('k', 'v', 1000)
  t.equal(state.get('k'), 'v')
  t.same(state.getMany(['k', 'other', 'k']), ['v', null, 'v'])
  clock.ms += 999
  t.equal(state.get('k'), 'v')
  clock.ms += 1
  t.equal(state.get('k'), null)
  state.set('k', 'v', 1000)
  clock.ms += 900
  state.set('k', 'w', 1000)
  clock.ms += 900
  t.equal(state.get('k'), 'w', 'written again, it lives anew')
  state.delete('k')
  t.equal(state.get('k'), null)
  t.equal(now(state.size()).entries, 0)
})

t.test('a key that is set as pinned, then as forgettable, is one key', async t => {
  const { app: { state } } = await build(t)
  state.set('k', 'loose', 1000)
  state.set('k', 'pinned', 1000, true)
  t.equal(state.get('k'), 'pinned')
  t.equal(now(state.size()).entries, 1)
  state.set('k', 'loose again', 1000)
  t.equal(state.get('k'), 'loose again')
  t.equal(now(state.size()).entries, 1)
  state.set('g', '7', 1000)
  t.equal(state.raise('g', 5, 1000), 8, 'a number that could be forgotten is pinned once it is raised')
  t.equal(now(state.size()).entries, 2)
})

t.test('a claim is won by exactly one of two hundred', async t => {
  const { app: { state }, clock } = await build(t)
  const won = await Promise.all(Array.from({ length: 200 }, async (_, i) => state.claim('code', String(i), 1000)))
  t.equal(won.filter(Boolean).length, 1)
  t.equal(state.get('code'), String(won.indexOf(true)))
  clock.ms += 1000
  t.equal(state.claim('code', 'again', 1000), true, 'after its time it is free')
})

t.test('a swap is won by exactly one of two hundred, and says why the others lost', async t => {
  const { app: { state }, clock } = await build(t)
  t.equal(state.swap('family', 'a', 'b', 1000), 'missing')
  t.equal(state.get('family'), null, 'a swap never creates')
  state.set('family', 'a', 1000)
  const outcomes = await Promise.all(Array.from({ length: 200 }, async (_, i) => state.swap('family', 'a', `b${i}`, 1000)))
  t.equal(outcomes.filter(outcome => outcome === 'swapped').length, 1)
  t.equal(outcomes.filter(outcome => outcome === 'mismatch').length, 199)
  state.set('family', 'a', 1000, true)
  t.equal(state.swap('family', 'a', 'b', 1000), 'swapped', 'pinned values too')
  clock.ms += 1000
  t.equal(state.swap('family', 'b', 'c', 1000), 'missing', 'what has expired is not revived (GHSA-pj27-2xvp-4qxg)')
})

t.test('raise never falls back and never answers the same twice', async t => {
  const { app: { state } } = await build(t)
  t.equal(state.raise('g', 1000, 1e6), 1000)
  t.equal(state.raise('g', 1000, 1e6), 1001)
  t.equal(state.raise('g', 500, 1e6), 1002, 'a lower floor does not lower it')
  t.equal(state.raise('g', 5000, 1e6), 5000)
  t.equal(state.get('g'), '5000')
})

t.test('add counts from the first change on, never below 0, and forgets what came to 0', async t => {
  const { app: { state }, clock } = await build(t)
  t.same(state.add('n', 1, 1000), { count: 1, ttlMs: 1000 })
  clock.ms += 400
  t.same(state.add('n', 2, 1000), { count: 3, ttlMs: 600 }, 'later changes do not prolong it')
  t.same(state.add('n', -3, 1000), { count: 0, ttlMs: 1000 })
  t.equal(now(state.size()).entries, 0)
  t.same(state.add('n', -1, 1000), { count: 0, ttlMs: 1000 })
  t.equal(now(state.size()).entries, 0, 'a refund of what is gone leaves nothing')
  t.same(state.add('n', 1, 1000), { count: 1, ttlMs: 1000 }, 'the next one begins a window of its own')
  clock.ms += 1000
  t.same(state.add('n', 1, 1000), { count: 1, ttlMs: 1000 })
  state.delete('n')
  t.same(state.add('n', 1, 1000), { count: 1, ttlMs: 1000 })
})

t.test('join counts different members up to a maximum, leave takes one out', async t => {
  const { app: { state }, clock } = await build(t)
  t.equal(state.join('s', 'a', 3, 1000), 1)
  t.equal(state.join('s', 'a', 3, 1000), 1)
  t.equal(state.join('s', 'b', 3, 1000), 2)
  clock.ms += 999
  t.equal(state.join('s', 'c', 3, 1000), 3)
  t.equal(state.join('s', 'd', 3, 1000), 3, 'it grows no further')
  state.leave('s', 'd')
  t.equal(state.join('s', 'a', 3, 1000), 3)
  state.leave('s', 'a')
  t.equal(state.join('s', 'b', 3, 1000), 2)
  clock.ms += 1
  t.equal(state.join('s', 'z', 3, 1000), 1, 'it lives from its first member on')
  state.leave('s', 'z')
  state.leave('unknown', 'z')
  t.equal(now(state.size()).entries, 0, 'an empty set is none')
})

t.test('mistakes of the programmer are TypeErrors, not silent nonsense', async t => {
  const { app: { state } } = await build(t)
  state.add('n', 1, 1000)
  state.join('s', 'a', 3, 1000)
  state.set('text', 'x', 1000)
  t.throws(() => state.raise('text', 1, 1000), TypeError)
  t.throws(() => state.join('n', 'a', 3, 1000), TypeError)
  t.throws(() => state.add('s', 1, 1000), TypeError)
  t.equal(state.get('n'), null, 'a tally is not a value')
  for (const ttl of [0, -1, NaN]) t.throws(() => state.claim('c', 'v', ttl), { name: 'TypeError', message: /time to live/ }, `a claim for ${ttl} ms would be everybody's`)
})

t.test('fixed window: begins with its first hit, ends as a whole', async t => {
  const { app: { state }, clock } = await build(t)
  const counter = state.counter({ name: 'fixed', windows: [{ limit: 3, ms: 1000 }], algorithm: 'fixed' })
  t.match(take(counter), { allowed: true, limit: 3, remaining: 2, resetMs: 1000, retryMs: 0 })
  clock.ms += 600
  t.match(take(counter), { allowed: true, remaining: 1, resetMs: 400 })
  t.match(take(counter), { allowed: true, remaining: 0 })
  t.match(take(counter), { allowed: false, remaining: 0, resetMs: 400, retryMs: 400 })
  clock.ms += 399
  t.match(take(counter), { allowed: false, retryMs: 1 })
  clock.ms += 1
  t.match(take(counter), { allowed: true, remaining: 2 })
})

t.test('a fixed window begins with a hit that counted, not with a look or a refusal', async t => {
  const { app: { state }, clock } = await build(t)
  const counter = state.counter({ name: 'fixed', windows: [{ limit: 2, ms: 1000 }], algorithm: 'fixed' })
  take(counter)
  clock.ms += 1000
  counter.peek('a')
  t.equal(take(counter, 'a', 3).allowed, false)
  clock.ms += 999
  t.equal(take(counter, 'a', 2).resetMs, 1000)
  clock.ms += 1
  t.equal(take(counter).allowed, false, 'otherwise four would have passed within a millisecond')
})

t.test('sliding window: the window before fades as the current one goes by', async t => {
  const { app: { state }, clock } = await build(t)
  const counter = state.counter({ name: 'sliding', windows: [{ limit: 10, ms: 1000 }] })
  for (let i = 0; i < 10; i++) t.equal(take(counter).allowed, true)
  t.match(take(counter), { allowed: false, retryMs: 1100, resetMs: 2000 }, 'one of ten has faded a tenth into the next window')
  clock.ms += 1099
  t.equal(take(counter).allowed, false)
  clock.ms += 1
  t.equal(take(counter).allowed, true)
  t.equal(take(counter).allowed, false)
  clock.ms += 500
  let passed = 0
  while (take(counter).allowed) passed += 1
  t.equal(passed, 5, 'at six tenths, six of the ten have faded')
})

t.test('several windows are decided together: what one refuses is counted in none', async t => {
  const { app: { state }, clock } = await build(t)
  for (const algorithm of ['fixed', 'sliding'] as const) {
    const counter = state.counter({ name: algorithm, windows: [{ limit: 2, ms: 1000 }, { limit: 5, ms: 60_000 }], algorithm })
    t.equal(take(counter).allowed, true)
    t.equal(take(counter).allowed, true)
    for (let i = 0; i < 50; i++) t.match(take(counter), { allowed: false, window: 0, limit: 2 })
    clock.ms += 2000
    t.match(take(counter), { allowed: true, window: 0 })
    t.match(take(counter), { allowed: true, window: 0, remaining: 0 }, 'the refused fifty did not spend the minute')
    clock.ms += 2000
    t.match(take(counter), { allowed: true, window: 1, limit: 5, remaining: 0 }, 'the window that is nearest to its limit is told')
    t.match(take(counter), { allowed: false, window: 1, limit: 5 })
    clock.ms += 200_000
  }
})

t.test('costs, peek and reset', async t => {
  const { app: { state }, clock } = await build(t)
  const counter = state.counter({ name: 'costs', windows: [{ limit: 10, ms: 1000 }] })
  t.match(counter.peek('a'), { allowed: true, remaining: 9, limit: 10 })
  t.equal(now(state.size()).counters, 0, 'a look makes no subject')
  t.match(take(counter, 'a', 11), { allowed: false, retryMs: 1000 }, 'more than the limit never passes')
  t.equal(now(state.size()).counters, 0, 'a refusal makes no subject')
  t.match(take(counter, 'a', 7), { allowed: true, remaining: 3 })
  for (let i = 0; i < 100; i++) t.match(counter.peek('a'), { allowed: true, remaining: 2 })
  t.equal(take(counter, 'a', 4).allowed, false)
  t.match(take(counter, 'a', 3), { allowed: true, remaining: 0 })
  t.equal(now(counter.peek('a')).allowed, false)
  t.match(take(counter, 'b', 10), { allowed: true }, 'subjects do not know each other')
  counter.reset('a')
  counter.reset('unknown')
  t.match(take(counter, 'a', 10), { allowed: true })
  clock.ms += 5000
  for (const cost of [0, -1, 0.5, NaN, Infinity, '1' as never]) {
    t.throws(() => counter.take('c', cost), { name: 'TypeError', message: /cost/ }, `a cost of ${cost} would let everything through`)
  }
  t.equal(take(counter, 'c', 10).allowed, true)
})

t.test('a clock that is set back neither opens nor locks a budget', async t => {
  for (const algorithm of ['fixed', 'sliding'] as const) {
    const { app: { state }, clock } = await build(t)
    const counter = state.counter({ name: algorithm, windows: [{ limit: 3, ms: 1000 }], algorithm })
    for (let i = 0; i < 3; i++) take(counter)
    clock.ms -= 3_600_000
    const { allowed, retryMs } = take(counter)
    t.equal(allowed, false, 'what was counted stays counted')
    t.ok(retryMs <= 2000, `and for ${retryMs} ms, not for an hour`)
    clock.ms += retryMs - 1
    t.equal(take(counter).allowed, false)
    clock.ms += 1
    t.equal(take(counter).allowed, true)
  }
})

/** What the counter has to do, said as plainly as possible: all hits are kept, and whole numbers only. */
class Model {
  readonly #hits: { at: number, cost: number }[] = []
  readonly #options: CounterOptions
  constructor (options: CounterOptions) { this.#options = options }

  /** Count of the current window, of the one before, and when the current one began. */
  #read (ms: number, at: number): { start: number, current: number, previous: number } {
    let start = at
    let current = 0
    let previous = 0
    const goOn = (time: number) => {
      while (current + previous > 0 && time - start >= ms) {
        previous = this.#options.algorithm === 'fixed' ? 0 : current
        current = 0
        start += ms
      }
      if (current + previous === 0) start = time
    }
    for (const hit of this.#hits) {
      goOn(hit.at)
      current += hit.cost
    }
    goOn(at)
    return { start, current, previous }
  }

  wouldPass (at: number, cost: number): boolean {
    return this.#options.windows.every(({ limit, ms }) => {
      const { start, current, previous } = this.#read(ms, at)
      return BigInt(current + cost) * BigInt(ms) + BigInt(previous) * BigInt(start + ms - at) <= BigInt(limit) * BigInt(ms)
    })
  }

  count (at: number, cost: number): void { this.#hits.push({ at, cost }) }

  /** The most that passed in any span of `ms`. */
  busiest (ms: number): number {
    let most = 0
    for (const { at } of this.#hits) {
      most = Math.max(most, this.#hits.filter(hit => hit.at >= at && hit.at < at + ms).reduce((sum, { cost }) => sum + cost, 0))
    }
    return most
  }
}

t.test('random traffic is decided as by a naive exact model, and retryMs is exact to the millisecond', async t => {
  for (const algorithm of ['fixed', 'sliding'] as const) {
    let decisions = 0
    let refusals = 0
    let worst = 0
    for (let seed = 1; seed <= 60; seed++) {
      const random = randomFrom(seed * 7919)
      const upTo = (n: number) => 1 + Math.floor(random() * n)
      const { app: { state }, clock } = await build(t)
      const windows = Array.from({ length: upTo(3) }, () => ({ limit: upTo(12), ms: upTo(900) }))
      const counter = state.counter({ name: 'random', windows, algorithm })
      const model = new Model({ name: 'random', windows, algorithm })
      const widest = Math.max(...windows.map(({ ms }) => ms))
      for (let i = 0; i < 250; i++) {
        clock.ms += random() < 0.5 ? 0 : random() < 0.1 ? upTo(3 * widest) : upTo(60)
        const cost = random() < 0.8 ? 1 : upTo(4)
        const expected = model.wouldPass(clock.ms, cost)
        const decision = take(counter, 'a', cost)
        decisions += 1
        if (decision.allowed !== expected) {
          t.fail(`seed ${seed}, step ${i}: the model says ${expected}`, { windows, decision })
          return
        }
        if (expected) {
          model.count(clock.ms, cost)
          continue
        }
        refusals += 1
        if (windows.some(({ limit }) => cost > limit)) continue
        const { retryMs } = decision
        if (model.wouldPass(clock.ms + retryMs - 1, cost) || !model.wouldPass(clock.ms + retryMs, cost)) {
          t.fail(`seed ${seed}, step ${i}: retryMs ${retryMs} is not exact`, { windows, decision, cost })
          return
        }
        // The counter itself holds to what it said, every now and then.
        if (random() < 0.3) {
          clock.ms += retryMs - 1
          if (take(counter, 'a', cost).allowed) t.fail(`seed ${seed}: passed a millisecond early`)
          clock.ms += 1
          if (!take(counter, 'a', cost).allowed) t.fail(`seed ${seed}: did not pass when it was said`)
          model.count(clock.ms, cost)
        }
      }
      for (const { limit, ms } of windows) worst = Math.max(worst, model.busiest(ms) / limit)
    }
    t.ok(refusals > 1000 && decisions - refusals > 1000, `${algorithm}: ${decisions} decisions, ${refusals} refusals`)
    t.ok(algorithm === 'fixed' ? worst <= 2 : worst < 2, `${algorithm}: the busiest span had ${worst.toFixed(2)} × its limit`)
  }
})

t.test('the documented bound of a sliding window holds at its worst: limit × (1 + x) by x after a seam', async t => {
  const { app: { state }, clock } = await build(t)
  const [limit, ms] = [100, 10_000]
  const counter = state.counter({ name: 'seam', windows: [{ limit, ms }] })
  take(counter, 'a')
  clock.ms += ms - 1
  let atTheEnd = 1
  while (take(counter).allowed) atTheEnd += 1
  t.equal(atTheEnd, limit)
  clock.ms += 1
  t.equal(take(counter).allowed, false, 'at the seam itself nothing more passes, where a fixed window would give all of it again')
  let after = 0
  for (let x = 0; x < 1; x += 0.01) {
    while (take(counter).allowed) after += 1
    t.ok(atTheEnd + after <= limit * (1 + x) + 1e-6, `${atTheEnd + after} have passed at ${x.toFixed(2)}`)
    clock.ms += ms / 100
  }

  const fixed = state.counter({ name: 'seam of a fixed one', windows: [{ limit, ms }], algorithm: 'fixed' })
  let within = 0
  take(fixed)
  clock.ms += ms - 1
  while (take(fixed).allowed) within += 1
  clock.ms += 1
  while (take(fixed).allowed) within += 1
  t.equal(within, 2 * limit - 1, 'the fixed window lets twice its limit through within a millisecond, as its documentation says')
})

t.test('a steady stream gets exactly its limit from a sliding window', async t => {
  const { app: { state }, clock } = await build(t)
  const counter = state.counter({ name: 'steady', windows: [{ limit: 100, ms: 1000 }] })
  let passed = 0
  for (let i = 0; i < 10_000; i++) {
    if (take(counter).allowed) passed += 1
    clock.ms += 5
  }
  t.ok(Math.abs(passed - 50 * 100) <= 100, `${passed} of 10,000 in 50 seconds at 100 a second`)
})

t.test('a flood of fresh keys does not grow what may be forgotten, and the oldest goes first', async t => {
  const { app: { state }, recorded } = await build(t, { maxEntries: 100 })
  for (let i = 0; i < 50; i++) state.set(`family:${i}`, 'alive', 1e6)
  state.set('family:0', 'refreshed', 1e6)
  state.set('pinned', 'stays', 1e6, true)
  for (let i = 0; i < 10; i++) state.set(`fresh:${i}`, 'x', 1e6)
  t.same(now(state.getMany(['family:0', 'family:1', 'family:10', 'family:11', 'fresh:0', 'pinned'])), ['refreshed', null, null, 'alive', 'x', 'stays'])
  for (let i = 0; i < 10_000; i++) state.set(`flood:${i}`, 'x', 1e6)
  t.equal(now(state.size()).entries, 51)
  t.equal(state.get('pinned'), 'stays')
  t.match(recorded, [{ type: 'state_full', details: { effect: 'forgotten' } }], 'operators learn of it, once')
})

t.test('a full state refuses with 503 and an event, and forgets nothing that is pinned [TRAP 7]', async t => {
  const { app, clock, recorded } = await build(t, { maxEntries: 100 })
  const { state } = app
  for (let i = 0; i < 25; i++) state.claim(`used:${i}`, 'x', 1e6)
  for (let i = 0; i < 25; i++) state.add(`failures:${i}`, 3, 1e6)
  const full = { code: 'FST_BASTION_STATE_FULL', statusCode: 503, headers: { 'retry-after': '10' } }
  for (let i = 0; i < 200; i++) {
    t.throws(() => state.claim(`flood:${i}`, 'x', 1e6), full)
    t.throws(() => state.set(`flood:${i}`, 'x', 1e6, true), full)
    t.throws(() => state.raise(`flood:${i}`, 1, 1e6), full)
    t.throws(() => state.add(`flood:${i}`, 1, 1e6), full)
    t.throws(() => state.join(`flood:${i}`, 'x', 3, 1e6), full)
  }
  for (let i = 0; i < 25; i++) {
    t.equal(state.claim(`used:${i}`, 'x', 1e6), false)
    t.equal(now(state.add(`failures:${i}`, 1, 1e6)).count, 4, 'what is held goes on')
  }
  state.set('family', 'alive', 1e6)
  t.equal(state.get('family'), 'alive', 'what may be forgotten has its own room')
  t.equal(recorded.length, 1, 'one loud event, not a thousand')
  t.match(recorded[0], { type: 'state_full', details: { effect: 'refused', times: 1 } })
  clock.ms += 10_000
  t.throws(() => state.claim('flood', 'x', 1e6), full)
  t.match(recorded[1], { details: { times: 1000 } }, 'the next one says how many there were')

  app.get('/claim', async () => state.claim('another', 'x', 1e6))
  const answer = await app.inject('/claim')
  t.equal(answer.statusCode, 503)
  t.equal(answer.headers['retry-after'], '10')
  t.equal(answer.json().code, 'FST_BASTION_STATE_FULL')

  clock.ms += 1e6
  t.equal(state.claim('later', 'x', 1e6), true, 'what has expired makes room')
  t.equal(now(state.add('later', 1, 1e6)).count, 1)
})

t.test('who is over a limit stays so through a flood of fresh subjects; all near their limits: 503 [TRAP 7]', async t => {
  const { app: { state }, recorded } = await build(t, { maxSubjects: 100 })
  const counter = state.counter({ name: 'c', windows: [{ limit: 4, ms: 1000 }] })
  for (let i = 0; i < 10; i++) while (take(counter, `attacker ${i}`).allowed);
  for (let i = 0; i < 5000; i++) t.ok(take(counter, `fresh ${i}`).allowed) || t.bailout()
  t.equal(now(state.size()).counters, 100)
  for (let i = 0; i < 10; i++) t.equal(take(counter, `attacker ${i}`).allowed, false)
  t.same(recorded, [])

  const strict = state.counter({ name: 'strict', windows: [{ limit: 1, ms: 1000 }] })
  for (let i = 0; i < 100; i++) take(strict, String(i))
  t.throws(() => strict.take('fresh'), { code: 'FST_BASTION_STATE_FULL' })
  t.match(recorded, [{ type: 'state_full' }])
  for (let i = 0; i < 100; i++) t.equal(take(strict, String(i)).allowed, false)
})

t.test('negative control: the memory store of @fastify/rate-limit forgets its victim in a flood of fresh keys [TRAP 7]', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, { max: 4, timeWindow: 60_000, cache: 100, keyGenerator: request => request.headers['x-caller'] as string })
  app.get('/', async () => 'in')
  const call = async (caller: string) => (await app.inject({ url: '/', headers: { 'x-caller': caller } })).statusCode
  for (let i = 0; i < 4; i++) await call('attacker')
  t.equal(await call('attacker'), 429)
  for (let i = 0; i < 100; i++) await call(`fresh ${i}`)
  t.equal(await call('attacker'), 200, 'the limit is gone')
})

t.test('two hundred thousand fresh keys: bounded, and cheap for each subject', async t => {
  const [few, many] = [20_000, 200_000]
  const { app: { state }, clock } = await build(t, { maxEntries: 4 * few, maxSubjects: few })
  const counter = state.counter({ name: 'flood', windows: [{ limit: 300, ms: 60_000 }] })
  for (let i = 0; i < 300; i++) take(counter, 'over its limit')
  state.set('pinned', 'stays', 1e9, true)
  let longest = 0n
  for (let i = 0; i < many; i++) {
    const began = process.hrtime.bigint()
    take(counter, `2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::`)
    state.set(`loose:${i}`, 'x', 1e9)
    if (i < few) state.add(`tally:${i}`, 1, 1e9)
    else if (i % 50 === 0) t.throws(() => state.add(`tally:${i}`, 1, 1e9), StateFull) || t.bailout()
    const took = process.hrtime.bigint() - began
    if (took > longest) longest = took
  }
  t.same(state.size(), { entries: 2 * few + 1 + few, counters: few })
  t.equal(take(counter, 'over its limit').allowed, false)
  t.equal(state.get('pinned'), 'stays')
  clock.ms += 10 * 60_000
  for (let i = 0; i < 20_000; i++) take(counter, 'one that stays')
  for (let i = 0; i < few; i++) take(counter, `later ${i}`)
  t.ok(now(state.size()).counters <= few)
  t.comment(`the slowest of ${many} rounds took ${(Number(longest) / 1e6).toFixed(1)} ms`)
})

t.test('memory per subject', async t => {
  const measured: Record<string, number> = {}
  const subjects = 200_000
  const collectGarbage = globalThis.gc ?? (await import('node:v8')).setFlagsFromString('--expose-gc') ?? (await import('node:vm')).runInNewContext('gc') as () => void
  const used = () => {
    collectGarbage()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  for (const [name, windows] of Object.entries({
    'one window': [{ limit: 300, ms: 60_000 }],
    'three windows': [{ limit: 5, ms: 1000 }, { limit: 100, ms: 60_000 }, { limit: 1000, ms: 3_600_000 }],
  })) {
    const { app: { state } } = await build(t)
    const counter = state.counter({ name, windows })
    const before = used()
    for (let i = 0; i < subjects; i++) take(counter, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
    measured[`a subject of a counter with ${name}`] = Math.round((used() - before) / subjects)
    t.equal(now(state.size()).counters, subjects)
  }
  const { app: { state } } = await build(t)
  const before = used()
  const id = () => randomBytes(16).toString('base64url')
  for (let i = 0; i < subjects; i++) state.set(`tokens:family:${id()}`, `${id()} 0`, 1e9)
  measured['a token family'] = Math.round((used() - before) / subjects)
  for (const [what, bytes] of Object.entries(measured)) t.ok(bytes < 500, `${what}: ${bytes} bytes`)
})

t.test('closing forgets everything', async t => {
  const { app } = await build(t)
  app.state.set('k', 'v', 1e6)
  app.state.claim('c', 'v', 1e6)
  await app.close()
  t.same(app.state.size(), { entries: 0, counters: 0 })
})

t.test('wrong options stop boot, and the message names them', async t => {
  for (const [options, message] of [
    [{ maxEntries: 10 }, /state: maxEntries/],
    [{ maxSubjects: '1000' }, /state: maxSubjects/],
    [{ maxEntires: 1000 }, /state: maxEntires/],
  ] as const) {
    await t.rejects(build(t, options as never), { code: 'FST_BASTION_STATE_MISCONFIGURED', message })
  }
  const { app: { state } } = await build(t)
  for (const windows of [[], [{ limit: 0, ms: 1 }], [{ limit: 1, ms: 0 }], [{ limit: 1.5, ms: 1000 }], [{ limit: NaN, ms: 1000 }], Array(9).fill({ limit: 1, ms: 1 })]) {
    t.throws(() => state.counter({ name: 'wrong', windows }), { name: 'TypeError', message: /counter wrong/ })
  }
  const counter = state.counter({ name: 'one', windows: [{ limit: 1, ms: 1000 }] })
  t.equal(state.counter({ name: 'one', windows: [{ ms: 1000, limit: 1 }], algorithm: 'sliding' }), counter)
  t.throws(() => state.counter({ name: 'one', windows: [{ limit: 2, ms: 1000 }] }), TypeError, 'a name that gives two budgets would give the first to both')
  t.throws(() => state.counter({ name: 'one', windows: [{ limit: 1, ms: 1000 }], algorithm: 'fixed' }), TypeError)
})
