/** State in memory is bounded, and never forgetful of those who matter. */
import { randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { StateFull } from '../../plugins/state/index.js'
import { build, now, take } from './build.js'

const ALGORITHMS = ['fixed', 'sliding', 'log', 'bucket'] as const
const FULL = { code: 'FST_BASTION_STATE_FULL', statusCode: 503, headers: { 'retry-after': '10' } }

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
  for (let i = 0; i < 200; i++) {
    t.throws(() => state.claim(`flood:${i}`, 'x', 1e6), FULL)
    t.throws(() => state.set(`flood:${i}`, 'x', 1e6, true), FULL)
    t.throws(() => state.raise(`flood:${i}`, 1, 1e6), FULL)
    t.throws(() => state.add(`flood:${i}`, 1, 1e6), FULL)
    t.throws(() => state.join(`flood:${i}`, 'x', 3, 1e6), FULL)
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
  t.throws(() => state.claim('flood', 'x', 1e6), FULL)
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

for (const algorithm of ALGORITHMS) {
  t.test(`${algorithm}: who is over a limit stays so through a flood of fresh subjects; all near their limits: 503 [TRAP 7]`, async t => {
    const { app: { state }, recorded } = await build(t, { maxSubjects: 100 })
    const counter = state.counter({ name: 'c', windows: [{ limit: 4, ms: 1000 }], algorithm })
    for (let i = 0; i < 10; i++) while (take(counter, `attacker ${i}`).allowed);
    for (let i = 0; i < 5000; i++) t.ok(take(counter, `fresh ${i}`).allowed) || t.bailout()
    t.equal(now(state.size()).counters, 100)
    for (let i = 0; i < 10; i++) t.equal(take(counter, `attacker ${i}`).allowed, false)
    t.same(recorded, [])

    const strict = state.counter({ name: 'strict', windows: [{ limit: 1, ms: 1000 }], algorithm })
    for (let i = 0; i < 100; i++) take(strict, String(i))
    t.throws(() => strict.take('fresh'), FULL)
    t.match(recorded, [{ type: 'state_full' }])
    for (let i = 0; i < 100; i++) t.equal(take(strict, String(i)).allowed, false)
  })
}

t.test('who is banned, or soon may be, stays through a flood of fresh subjects; all banned: 503 [TRAP 7]', async t => {
  const { app: { state }, clock } = await build(t, { maxSubjects: 100 })
  const counter = state.counter({ name: 'c', windows: [{ limit: 4, ms: 1000 }], ban: { after: 3, ms: 60_000 } })
  for (let i = 0; i < 3; i++) take(counter, 'banned', 5)
  for (let i = 0; i < 2; i++) take(counter, 'two strikes', 5)
  clock.ms += 30_000 // their windows are long over: only the ban and the strikes are left
  for (let i = 0; i < 5000; i++) t.ok(take(counter, `fresh ${i}`).allowed) || t.bailout()
  t.equal(now(state.size()).counters, 100)
  t.match(take(counter, 'banned'), { banned: true, retryMs: 30_000 })
  t.match(take(counter, 'two strikes', 5), { banned: true, retryMs: 60_000 })
  clock.ms += 60_000
  for (let i = 0; i < 5000; i++) take(counter, `later ${i}`)
  t.match(take(counter, 'banned', 5), { banned: false }, 'a ban that is over is forgotten with all else')

  const strict = state.counter({ name: 'strict', windows: [{ limit: 4, ms: 1000 }], ban: { after: 1, ms: 60_000 } })
  for (let i = 0; i < 100; i++) take(strict, String(i), 5)
  t.throws(() => strict.take('fresh'), FULL)
  t.throws(() => strict.take('fresh', 5), FULL, 'a strike that cannot be remembered is no answer')
  for (let i = 0; i < 100; i++) t.equal(take(strict, String(i)).banned, true)
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

t.test('the times that logs keep are bounded together: the harmless are forgotten, then it is 503, and nobody over a limit is let in [TRAP 7]', async t => {
  const { app: { state }, clock } = await build(t, { maxSubjects: 100 })
  const counter = state.counter({ name: 'log', windows: [{ limit: 100, ms: 1000 }], algorithm: 'log' })
  for (let i = 0; i < 4; i++) while (take(counter, `attacker ${i}`).allowed);
  for (let i = 0; i < 99; i++) t.ok(take(counter, `harmless ${i}`, 40).allowed) || t.bailout()
  t.ok(now(state.size()).counters < 20, 'room for eight hundred times')
  for (let i = 0; i < 4; i++) t.equal(take(counter, `attacker ${i}`).allowed, false)
  for (let i = 4; i < 8; i++) while (take(counter, `attacker ${i}`).allowed);
  t.throws(() => counter.take('fresh'), FULL)
  for (let i = 0; i < 8; i++) t.equal(take(counter, `attacker ${i}`).allowed, false)
  clock.ms += 1000
  t.equal(take(counter, 'fresh', 100).allowed, true, 'what is over makes room')
  for (let i = 0; i < 500; i++) {
    while (take(counter, 'one that stays').allowed);
    clock.ms += 250
  }
  t.equal(take(counter, 'fresh', 100).allowed, true, 'who goes on for long keeps only what still counts')

  const alone = state.counter({ name: 'larger than the room', windows: [{ limit: 2000, ms: 1000 }], algorithm: 'log' })
  take(alone, 'a', 800)
  t.throws(() => alone.take('a'), FULL, 'nobody is forgotten to make room for themselves')
  t.equal(now(alone.peek('a')).remaining, 1199)
})

for (const algorithm of ALGORITHMS) {
  t.test(`${algorithm}: a million fresh subjects stay inside the bound`, async t => {
    const [few, many] = [20_000, 1_000_000]
    const { app: { state }, clock } = await build(t, { maxSubjects: few })
    const counter = state.counter({ name: 'flood', windows: [{ limit: 300, ms: 60_000 }], algorithm })
    take(counter, 'over its limit', 300)
    let longest = 0
    for (let i = 0; i < many; i++) {
      const began = performance.now()
      counter.take(`2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::`)
      longest = Math.max(longest, performance.now() - began)
    }
    t.equal(now(state.size()).counters, few)
    t.equal(take(counter, 'over its limit').allowed, false)
    clock.ms += 10 * 60_000
    for (let i = 0; i < few; i++) take(counter, `later ${i}`)
    t.ok(now(state.size()).counters <= few)
    t.equal(take(counter, 'over its limit').allowed, true)
    t.comment(`the slowest of ${many} decisions took ${longest.toFixed(1)} ms`)
  })
}

t.test('two hundred thousand fresh keys stay inside the bound', async t => {
  const [few, many] = [20_000, 200_000]
  const { app: { state } } = await build(t, { maxEntries: 4 * few })
  state.set('pinned', 'stays', 1e9, true)
  for (let i = 0; i < many; i++) {
    state.set(`loose:${i}`, 'x', 1e9)
    if (i < few) state.add(`tally:${i}`, 1, 1e9)
    else if (i % 50 === 0) t.throws(() => state.add(`tally:${i}`, 1, 1e9), StateFull) || t.bailout()
  }
  t.same(state.size(), { entries: 2 * few + 1 + few, counters: 0 })
  t.equal(state.get('pinned'), 'stays')
})

t.test('memory per subject', async t => {
  const measured: Record<string, number> = {}
  const subjects = 100_000
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const used = () => {
    collectGarbage()
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const one = [{ limit: 300, ms: 60_000 }]
  const three = [{ limit: 5, ms: 1000 }, { limit: 100, ms: 60_000 }, { limit: 1000, ms: 3_600_000 }]
  for (const [algorithm, windows, hits] of [
    ['fixed', one, 1], ['sliding', one, 1], ['sliding', three, 1], ['bucket', one, 1], ['log', one, 1], ['log', three, 1], ['log', one, 8],
  ] as const) {
    const { app: { state }, clock } = await build(t)
    const counter = state.counter({ name: 'c', windows, algorithm })
    const before = used()
    for (let hit = 0; hit < hits; hit++) {
      for (let i = 0; i < subjects; i++) take(counter, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
      clock.ms += 1000
    }
    measured[`${algorithm}, ${windows.length} windows, ${hits} hits`] = Math.round((used() - before) / subjects)
    t.equal(now(state.size()).counters, subjects)
  }
  const { app: { state } } = await build(t)
  const before = used()
  const id = () => randomBytes(16).toString('base64url')
  for (let i = 0; i < subjects; i++) state.set(`tokens:family:${id()}`, `${id()} 0`, 1e9)
  measured['a token family'] = Math.round((used() - before) / subjects)
  for (const [what, bytes] of Object.entries(measured)) t.ok(bytes < 500, `${what}: ${bytes} bytes`)
})
