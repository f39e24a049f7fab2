/** State in memory is bounded, and never forgetful of those who matter. */
import { randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import Fastify from 'fastify'
import rateLimit from '@fastify/rate-limit'
import t from 'tap'
import { Directory, NO_SLOT } from '../../plugins/state/directory.js'
import { StateFull } from '../../plugins/state/index.js'
import { KeyedHash } from '../../plugins/state/keyed-hash.js'
import { PLACES_PER_WRITE } from '../../plugins/state/shelf.js'
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
  const { 'sliding, 3 windows, 1 hits': sliding = Infinity, 'fixed, 1 windows, 1 hits': fixed = Infinity, 'a token family': family = Infinity } = measured
  t.ok(sliding <= 200, `a client with three sliding windows: ${sliding} bytes`)
  t.ok(fixed <= 100 && family <= 250, `a fixed window ${fixed}, a token family ${family} bytes`)
})

t.test('a name is found among a hundred thousand with as few looks as among a thousand, and what must be found is', t => {
  const looksAmong = (names: number): number => {
    const directory = new Directory()
    const slots = Array.from({ length: names }, (_none, i) => directory.open(`203.0.${i >> 8}.${i & 255}`))
    directory.looked = 0
    for (let i = 0; i < names; i++) if (directory.find(`203.0.${i >> 8}.${i & 255}`) !== slots[i]) t.fail(`name ${i} has another slot`)
    const looks = directory.looked / names
    t.equal(directory.find('198.51.100.1'), NO_SLOT)
    for (let i = 0; i < names; i += 2) directory.close(slots[i]!)
    for (let i = 0; i < names; i++) if ((directory.find(`203.0.${i >> 8}.${i & 255}`) !== NO_SLOT) !== (i % 2 === 1)) t.fail(`name ${i}`)
    t.equal(directory.size, names / 2)
    return looks
  }
  for (const names of [1000, 100_000]) t.ok(looksAmong(names) < 1.8, `${names} names`)
  t.end()
})

t.test('a name costs the same few looks at whatever moment the directory grows: never do all of them move at once', t => {
  const directory = new Directory()
  const moved = (name: string): number => {
    const before = directory.moved
    directory.open(name)
    return directory.moved - before
  }
  let most = 0
  for (let i = 0; i < 100_000; i++) most = Math.max(most, moved(`name ${i}`))
  t.ok(most < 20, `${most} names moved at most; a table that doubles as a whole moves 65,536 at once`)
  t.ok(directory.moved > 100_000, 'negative control: they are counted')
  t.end()
})

t.test('names cannot be chosen so that they fall together, because each process, and each directory, has a key of its own (CWE-407)', t => {
  const [known, other] = [new KeyedHash(Buffer.alloc(8, 1)), new KeyedHash(Buffer.alloc(8, 2))]
  const chosen: string[] = []
  for (let i = 0; chosen.length < 64; i++) {
    known.of(`2001:db8::${i.toString(16)}`)
    if ((known.low & 1023) === 0) chosen.push(`2001:db8::${i.toString(16)}`)
  }
  const bucketsOf = (hash: KeyedHash) => new Set(chosen.map(name => { hash.of(name); return hash.low & 1023 })).size
  t.equal(bucketsOf(known), 1, 'negative control: who knows the key can')
  t.ok(bucketsOf(other) > 50)
  t.ok(bucketsOf(new KeyedHash()) > 50)
  const halves = new Set<string>()
  for (const name of ['', 'a', 'aa', 'a\0', '\0', 'ab', 'ba', 'abc', 'abc\0', 'ā', '\u{1f600}']) {
    known.of(name)
    halves.add(`${known.low} ${known.high}`)
  }
  t.equal(halves.size, 11, 'no text is taken for another')
  t.end()
})

t.test('texts of any length come back as they were, whatever was kept and dropped before', async t => {
  const { app: { state } } = await build(t)
  const texts = new Map<string, string>()
  const parts = ['', 'x', 'é', '…', '\ud800', '\u{1f600}', 'a'.repeat(59), 'b'.repeat(60), 'c'.repeat(61), 'd'.repeat(128), '…'.repeat(31), 'e'.repeat(100_000), '…'.repeat(70_000)]
  for (let i = 0; i < 5000; i++) {
    const key = `key:${i * 31 % 257}${parts[i % 3]}`
    if (i % 5 === 4) {
      texts.delete(key)
      state.delete(key)
      continue
    }
    const value = parts[i * 17 % parts.length]! + i
    texts.set(key, value)
    state.set(key, value, 1e6)
  }
  for (const [key, value] of texts) if (state.get(key) !== value) t.fail(key)
  t.equal(now(state.size()).entries, texts.size)
})

t.test('values are kept by their whole key: another key of the same hash gets nothing of it', t => {
  const directory = new Directory((slot, name) => slot === 1 ? name === 'one' : name === 'another')
  t.equal(directory.open('one'), 1)
  t.equal(directory.find('one'), 1)
  const strict = new Directory(() => false)
  strict.open('one')
  t.equal(strict.find('one'), NO_SLOT)
  t.end()
})

t.test('what has expired is collected a few places at a time, and its room is used again', async t => {
  const { app: { state }, clock } = await build(t, { maxEntries: 80_000, maxSubjects: 20_000 })
  const counter = state.counter({ name: 'c', windows: [{ limit: 9, ms: 1000 }, { limit: 99, ms: 60_000 }] })
  for (let i = 0; i < 20_000; i++) {
    take(counter, `early ${i}`)
    state.set(`early:${i}`, 'x', 1000)
  }
  clock.ms += 10 * 60_000
  const held = () => now(state.size())
  for (let i = 0; i < 20_000; i++) {
    const before = held()
    take(counter, `late ${i}`)
    state.set(`late:${i}`, 'x', 1e9)
    const after = held()
    if (before.counters - after.counters > PLACES_PER_WRITE || before.entries - after.entries > PLACES_PER_WRITE) t.fail('more than a few places at once')
  }
  t.same(held(), { entries: 20_000, counters: 20_000 }, 'nothing is left of what was there before')
})
