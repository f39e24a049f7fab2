/** Counters: what each algorithm promises at its seams, and what all of them do. */
import type { Test } from 'tap'
import type { Counter, CounterOptions } from '../../plugins/state/index.js'
import type { Opened } from './contract.js'

const ALGORITHMS = ['fixed', 'sliding', 'log', 'bucket'] as const

/** Takes until it is refused; answers how many passed. */
async function drain (counter: Counter, subject = 'a'): Promise<number> {
  let passed = 0
  while ((await counter.take(subject)).allowed) passed += 1
  return passed
}

export async function holdsCounters (t: Test, begin: (t: Test) => Promise<Opened>): Promise<void> {
  t.test('fixed window: begins with its first hit, ends as a whole', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'fixed', windows: [{ limit: 3, ms: 1000 }], algorithm: 'fixed' })
    t.match(await counter.take('a'), { allowed: true, limit: 3, remaining: 2, resetMs: 1000, retryMs: 0 })
    clock.ms += 600
    t.match(await counter.take('a'), { allowed: true, remaining: 1, resetMs: 400 })
    t.match(await counter.take('a'), { allowed: true, remaining: 0 })
    t.match(await counter.take('a'), { allowed: false, remaining: 0, resetMs: 400, retryMs: 400 })
    clock.ms += 399
    t.match(await counter.take('a'), { allowed: false, retryMs: 1 })
    clock.ms += 1
    t.match(await counter.take('a'), { allowed: true, remaining: 2 })
  })

  t.test('a fixed window begins with a hit that counted, not with a look or a refusal', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'fixed', windows: [{ limit: 2, ms: 1000 }], algorithm: 'fixed' })
    await counter.take('a')
    clock.ms += 1000
    await counter.peek('a')
    t.equal((await counter.take('a', 3)).allowed, false)
    clock.ms += 999
    t.equal((await counter.take('a', 2)).resetMs, 1000)
    clock.ms += 1
    t.equal((await counter.take('a')).allowed, false, 'otherwise four would have passed within a millisecond')
  })

  t.test('sliding window: the window before fades as the current one goes by', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'sliding', windows: [{ limit: 10, ms: 1000 }] })
    t.equal(await drain(counter), 10)
    t.match(await counter.take('a'), { allowed: false, retryMs: 1100, resetMs: 2000 }, 'one of ten has faded a tenth into the next window')
    clock.ms += 1099
    t.equal((await counter.take('a')).allowed, false)
    clock.ms += 1
    t.equal(await drain(counter), 1)
    clock.ms += 500
    t.equal(await drain(counter), 5, 'at six tenths, six of the ten have faded')
  })

  t.test('log: a hit counts for exactly as long as the window, whatever the others do', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'log', windows: [{ limit: 3, ms: 1000 }], algorithm: 'log' })
    t.match(await counter.take('a'), { allowed: true, limit: 3, remaining: 2, resetMs: 1000, retryMs: 0 })
    clock.ms += 600
    t.match(await counter.take('a', 2), { allowed: true, remaining: 0, resetMs: 1000 })
    t.match(await counter.take('a'), { allowed: false, remaining: 0, resetMs: 1000, retryMs: 400 })
    t.match(await counter.take('a', 2), { allowed: false, retryMs: 1000 }, 'two have to wait for the second of them')
    clock.ms += 399
    t.match(await counter.take('a'), { allowed: false, resetMs: 601, retryMs: 1 })
    clock.ms += 1
    t.match(await counter.take('a'), { allowed: true, remaining: 0 })
    t.match(await counter.take('a'), { allowed: false, resetMs: 1000, retryMs: 600 })
  })

  t.test('bucket: a burst of what it holds, then one for each that flowed in', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'bucket', windows: [{ limit: 3, ms: 1000 }], algorithm: 'bucket' })
    t.match(await counter.take('a'), { allowed: true, limit: 3, remaining: 2, resetMs: 334, retryMs: 0 }, 'a third of the bucket is filled in a third of the time')
    t.match(await counter.take('a', 2), { allowed: true, remaining: 0, resetMs: 1000 })
    t.match(await counter.take('a'), { allowed: false, remaining: 0, resetMs: 1000, retryMs: 334 })
    t.match(await counter.take('a', 3), { allowed: false, retryMs: 1000 })
    clock.ms += 333
    t.match(await counter.take('a'), { allowed: false, retryMs: 1 })
    clock.ms += 1
    t.match(await counter.take('a'), { allowed: true, remaining: 0, resetMs: 1000 })
    clock.ms += 999
    t.equal(await drain(counter), 2)
    clock.ms += 3_600_000
    t.equal(await drain(counter), 3, 'it never holds more')
  })

  for (const algorithm of ALGORITHMS) {
    t.test(`${algorithm}: several windows are decided together, what one refuses is counted in none`, async t => {
      const { state, clock } = await begin(t)
      const counter = state.counter({ name: 'together', windows: [{ limit: 2, ms: 1000 }, { limit: 5, ms: 60_000 }], algorithm })
      t.equal(await drain(counter), 2)
      for (let i = 0; i < 50; i++) t.match(await counter.take('a'), { allowed: false, window: 0, limit: 2, violated: [0] })
      clock.ms += 2000
      t.match(await counter.take('a'), { allowed: true, window: 0 })
      t.match(await counter.take('a'), { allowed: true, window: 0, remaining: 0 }, 'the refused fifty did not spend the minute')
      clock.ms += 2000
      t.match(await counter.take('a'), { allowed: true, window: 1, limit: 5, remaining: 0 }, 'the window that is nearest to its limit is told')
      t.match(await counter.take('a'), { allowed: false, window: 1, limit: 5, violated: [1] })
      t.match(await counter.take('a', 3), { allowed: false, violated: [0, 1] }, 'all that refuse are named')
    })

    t.test(`${algorithm}: costs, peek and reset`, async t => {
      const { state } = await begin(t)
      const counter = state.counter({ name: 'costs', windows: [{ limit: 10, ms: 1000 }], algorithm })
      t.same(counter.windows, [{ limit: 10, ms: 1000 }])
      t.match(await counter.peek('a'), { allowed: true, remaining: 9, limit: 10, violated: [], banned: false })
      t.match(await counter.take('a', 11), { allowed: false, retryMs: 1000, violated: [0] }, 'more than the limit never passes')
      t.match(await counter.take('a', Number.MAX_SAFE_INTEGER), { allowed: false })
      t.match(await counter.take('a', 7), { allowed: true, remaining: 3, violated: [] })
      for (let i = 0; i < 20; i++) t.match(await counter.peek('a'), { allowed: true, remaining: 2 })
      t.match(await counter.take('a', 4), { allowed: false })
      t.match(await counter.take('a', 3), { allowed: true, remaining: 0 })
      t.match(await counter.peek('a'), { allowed: false, remaining: 0, violated: [0] })
      t.match(await counter.take('b', 10), { allowed: true }, 'subjects do not know each other')
      await counter.reset('a')
      await counter.reset('unknown')
      t.match(await counter.take('a', 10), { allowed: true })
      t.match(await counter.peek('b'), { allowed: false })
      for (const cost of [0, -1, 0.5, NaN, Infinity, '1' as never]) {
        await t.rejects(async () => counter.take('c', cost), { name: 'TypeError', message: /cost/ }, `a cost of ${cost} would let everything through`)
      }
      t.match(await counter.take('c', 10), { allowed: true })
    })

    t.test(`${algorithm}: of two hundred at once exactly the limit passes`, async t => {
      const { state } = await begin(t)
      const counter = state.counter({ name: 'parallel', windows: [{ limit: 80, ms: 60_000 }, { limit: 50, ms: 3_600_000 }], algorithm })
      const decisions = await Promise.all(Array.from({ length: 200 }, async () => counter.take('a')))
      t.equal(decisions.filter(({ allowed }) => allowed).length, 50)
      t.same(new Set(decisions.filter(({ allowed }) => allowed).map(({ remaining }) => remaining)), new Set(Array.from({ length: 50 }, (_, i) => i)))
    })

    t.test(`${algorithm}: a clock that is set back neither opens nor locks a budget`, async t => {
      for (const back of [3_600_000, 10]) {
        const { state, clock } = await begin(t)
        const counter = state.counter({ name: 'back', windows: [{ limit: 3, ms: 1000 }], algorithm })
        t.equal(await drain(counter), 3)
        clock.ms -= back
        const { allowed, retryMs } = await counter.take('a')
        t.equal(allowed, false, 'what was counted stays counted')
        t.ok(retryMs <= 2000, `and for ${retryMs} ms, not for an hour`)
        clock.ms += retryMs - 1
        t.equal((await counter.take('a')).allowed, false)
        clock.ms += 1
        t.equal((await counter.take('a')).allowed, true)
      }
    })
  }

  t.test('the double burst at a window\'s edge passes a fixed window, less of it a sliding one, nothing a log', async t => {
    const { state, clock } = await begin(t)
    const windows = [{ limit: 100, ms: 10_000 }]
    const burst = async (algorithm: typeof ALGORITHMS[number]) => {
      const counter = state.counter({ name: `seam ${algorithm}`, windows, algorithm })
      await counter.take('a')
      clock.ms += 9999
      t.equal(await drain(counter), algorithm === 'bucket' ? 100 : 99)
      clock.ms += 1
      return { counter, passed: await drain(counter) }
    }
    t.equal((await burst('fixed')).passed, 100, 'all of it again, a millisecond later')
    t.equal((await burst('bucket')).passed, 0)

    const { counter: log, passed } = await burst('log')
    t.equal(passed, 1, 'the first of them left the window, and so one more passes')
    t.match(await log.take('a'), { allowed: false, retryMs: 9999 })
    clock.ms += 9998
    t.equal(await drain(log), 0)
    clock.ms += 1
    t.equal(await drain(log), 99)

    const { counter: sliding, passed: atSeam } = await burst('sliding')
    t.equal(atSeam, 0, 'at the seam itself nothing more passes')
    let sum = 100
    for (let x = 0; x < 1; x += 0.01) {
      sum += await drain(sliding)
      t.ok(sum <= 100 * (1 + x) + 1e-6, `limit × (1 + x) by x after the seam, as is documented: ${sum} at ${x.toFixed(2)}`) || t.bailout()
      clock.ms += 100
    }
  })

  t.test('a steady stream gets its limit from a sliding window, a log and a bucket', async t => {
    const { state, clock } = await begin(t)
    for (const algorithm of ['sliding', 'log', 'bucket'] as const) {
      const counter = state.counter({ name: `steady ${algorithm}`, windows: [{ limit: 100, ms: 1000 }], algorithm })
      let passed = 0
      for (let i = 0; i < 2000; i++) {
        if ((await counter.take('a')).allowed) passed += 1
        clock.ms += 5
      }
      t.ok(Math.abs(passed - 1000) <= 100, `${algorithm}: ${passed} of 2,000 in 10 seconds at 100 a second`)
    }
  })

  t.test('one name is one counter: the same budget, and the same windows, algorithm and ban', async t => {
    const { state } = await begin(t)
    const windows = [{ limit: 2, ms: 1000 }]
    const [one, same] = [state.counter({ name: 'one', windows }), state.counter({ name: 'one', windows: [{ ms: 1000, limit: 2 }], algorithm: 'sliding' })]
    await one.take('a')
    t.match(await same.take('a'), { allowed: true, remaining: 0 })
    t.equal((await one.take('a')).allowed, false)
    t.match(await state.counter({ name: 'another', windows }).take('a'), { allowed: true, remaining: 1 })
    const known = { name: 'TypeError', message: /counter one: is there already/ }
    const ban = { after: 2, ms: 1000 }
    for (const other of [{ windows: [{ limit: 3, ms: 1000 }] }, { windows: [...windows, ...windows] }, { windows, algorithm: 'fixed' as const }, { windows, ban }]) {
      t.throws(() => state.counter({ name: 'one', ...other }), known, 'a name that gives two budgets would give the first to both')
    }
    state.counter({ name: 'banning', windows, ban })
    state.counter({ name: 'banning', windows, ban: { ms: 1000, after: 2 } })
    t.throws(() => state.counter({ name: 'banning', windows, ban: { after: 3, ms: 1000 } }), { name: 'TypeError' })
    t.throws(() => state.counter({ name: 'banning', windows }), { name: 'TypeError' })
  })

  t.test('wrong options of a counter are TypeErrors that name it', async t => {
    const { state } = await begin(t)
    const right = [{ limit: 1, ms: 1000 }]
    const refused = (options: Omit<CounterOptions, 'name'>, message: RegExp) => {
      t.throws(() => state.counter({ name: 'wrong', ...options }), { name: 'TypeError', message }, JSON.stringify(options))
    }
    for (const windows of [[], [{ limit: 0, ms: 1 }], [{ limit: 1, ms: 0 }], [{ limit: 1.5, ms: 1000 }], [{ limit: NaN, ms: 1000 }], Array(9).fill({ limit: 1, ms: 1 })]) {
      refused({ windows }, /counter wrong: needs one to 8 windows/)
    }
    refused({ windows: right, algorithm: 'leaky' as never }, /counter wrong: the algorithm/)
    refused({ windows: [...right, { limit: 10_001, ms: 1000 }], algorithm: 'log' }, /counter wrong: .*at most 10000/)
    for (const algorithm of ['sliding', 'bucket'] as const) refused({ windows: [...right, { limit: 53_000_000, ms: 86_400_000 }], algorithm }, /counter wrong: limit × milliseconds/)
    for (const ban of [{ after: 0, ms: 1000 }, { after: 1, ms: 0 }, { after: 1.5, ms: 1000 }, { after: 1, ms: NaN }, { after: '1' as never, ms: 1000 }, {} as never]) {
      refused({ windows: right, ban }, /counter wrong: a ban needs/)
    }
    t.match(await state.counter({ name: 'largest log', windows: [{ limit: 10_000, ms: 1000 }], algorithm: 'log' }).take('a', 10_000), { allowed: true, remaining: 0 })
    t.match(await state.counter({ name: 'largest fixed', windows: [{ limit: 1e12, ms: 86_400_000 }], algorithm: 'fixed' }).take('a'), { remaining: 1e12 - 1 })
  })
}
