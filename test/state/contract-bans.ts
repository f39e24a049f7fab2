/** Who is refused too often is refused everything for a while. */
import type { Test } from 'tap'
import type { Opened } from './contract.js'

export async function holdsBans (t: Test, begin: (t: Test) => Promise<Opened>): Promise<void> {
  const windows = [{ limit: 2, ms: 1000 }]

  for (const algorithm of ['fixed', 'sliding', 'log', 'bucket'] as const) {
    t.test(`${algorithm}: the third refusal starts a ban, which ends when it was said and leaves no strikes`, async t => {
      const { state, clock } = await begin(t)
      const counter = state.counter({ name: 'bans', windows, algorithm, ban: { after: 3, ms: 10_000 } })
      const banned = { allowed: false, banned: true, window: 0, limit: 2, remaining: 0 }
      for (let round = 0; round < 2; round++) {
        for (let i = 0; i < 2; i++) t.match(await counter.take('a'), { allowed: true, banned: false })
        for (let i = 0; i < 2; i++) t.match(await counter.take('a'), { allowed: false, banned: false, violated: [0] })
        t.match(await counter.take('a'), { ...banned, retryMs: 10_000, resetMs: 10_000, violated: [0] }, 'who starts it is told')
        clock.ms += 5000
        for (let i = 0; i < 20; i++) t.match(await counter.take('a', 1 + i), { ...banned, retryMs: 5000, resetMs: 5000, violated: i > 1 ? [0] : [] })
        t.same(await counter.peek('a'), { ...banned, retryMs: 5000, resetMs: 5000, violated: [] })
        t.match(await counter.take('b'), { allowed: true, banned: false }, 'nobody else is concerned')
        clock.ms += 4999
        t.same(await counter.take('a'), { ...banned, retryMs: 1, resetMs: 1, violated: [] }, 'those twenty did not prolong it')
        clock.ms += 1
        t.match(await counter.peek('a'), { allowed: true, banned: false, remaining: 1 })
      }
    })
  }

  t.test('strikes count for as long as a ban lasts, from the first of them on', async t => {
    for (const [lastAt, isBanned] of [[9999, true], [10_000, false]] as const) {
      const { state, clock } = await begin(t)
      const counter = state.counter({ name: 'bans', windows: [{ limit: 1, ms: 60_000 }], algorithm: 'fixed', ban: { after: 3, ms: 10_000 } })
      await counter.take('a')
      t.match(await counter.take('a'), { allowed: false, banned: false })
      clock.ms += 5000
      t.match(await counter.take('a'), { allowed: false, banned: false })
      clock.ms += lastAt - 5000
      t.match(await counter.take('a'), { allowed: false, banned: isBanned })
      if (isBanned) continue
      clock.ms += 5000
      t.match(await counter.take('a'), { allowed: false, banned: false })
      t.match(await counter.take('a'), { allowed: false, banned: true }, 'the third of the next three')
    }
  })

  t.test('a window that refuses for longer than the ban says so', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'bans', windows: [{ limit: 1, ms: 60_000 }, { limit: 5, ms: 100 }], algorithm: 'fixed', ban: { after: 1, ms: 1000 } })
    await counter.take('a')
    t.match(await counter.take('a'), { banned: true, violated: [0], retryMs: 60_000 })
    clock.ms += 1000
    t.match(await counter.take('a'), { banned: true, violated: [0], retryMs: 59_000 }, 'after: 1 bans with the next refusal')
    clock.ms += 500
    t.match(await counter.take('a'), { banned: true, violated: [0], retryMs: 58_500 }, 'during the ban too: what it says is never too early')
    clock.ms += 58_499
    t.match(await counter.take('a'), { allowed: false })
  })

  t.test('a look makes no strike, a cost above the limit does, and what passes takes none back', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'bans', windows, ban: { after: 2, ms: 10_000 } })
    for (let i = 0; i < 2; i++) await counter.take('a')
    for (let i = 0; i < 20; i++) t.match(await counter.peek('a'), { allowed: false, banned: false })
    t.match(await counter.take('a'), { allowed: false, banned: false })
    clock.ms += 3000
    t.match(await counter.take('a'), { allowed: true, banned: false })
    t.match(await counter.take('a', 2), { allowed: false, banned: true })
    t.match(await counter.take('never counted', 3), { allowed: false, banned: false, violated: [0] })
    t.match(await counter.take('never counted', 3), { allowed: false, banned: true, violated: [0] })
    t.match(await counter.take('never counted'), { allowed: false, banned: true, violated: [] })
  })

  t.test('reset forgets bans and strikes', async t => {
    const { state } = await begin(t)
    const counter = state.counter({ name: 'bans', windows, ban: { after: 2, ms: 10_000 } })
    for (let i = 0; i < 4; i++) await counter.take('a')
    t.equal((await counter.peek('a')).banned, true)
    await counter.reset('a')
    t.match(await counter.take('a', 2), { allowed: true, banned: false })
    t.match(await counter.take('a'), { allowed: false, banned: false })
    await counter.reset('a')
    await counter.take('a', 2)
    t.match(await counter.take('a'), { allowed: false, banned: false }, 'the strike before does not count')
    t.match(await counter.take('a'), { allowed: false, banned: true })
  })

  t.test('of two hundred refused at once, those before the ban are refused by the window, all others by the ban', async t => {
    const { state } = await begin(t)
    const counter = state.counter({ name: 'bans', windows, ban: { after: 5, ms: 10_000 } })
    const decisions = await Promise.all(Array.from({ length: 200 }, async () => counter.take('a')))
    t.equal(decisions.filter(({ allowed }) => allowed).length, 2)
    t.equal(decisions.filter(({ allowed, banned }) => !allowed && !banned).length, 4)
    t.equal(decisions.filter(({ banned }) => banned).length, 194)
  })

  t.test('a clock that is set back neither prolongs a ban nor ends it, nor makes strikes older or younger', async t => {
    const { state, clock } = await begin(t)
    const counter = state.counter({ name: 'c', windows: [{ limit: 1, ms: 10 }], ban: { after: 2, ms: 1000 } })
    await counter.take('a')
    await counter.take('a')
    t.match(await counter.take('a'), { banned: true, retryMs: 1000 })
    clock.ms -= 3_600_000
    t.match(await counter.take('a'), { banned: true, retryMs: 1000 })
    clock.ms += 999
    t.match(await counter.take('a'), { banned: true, retryMs: 1 })
    clock.ms += 1
    t.match(await counter.take('a', 2), { allowed: false, banned: false }, 'the first strike')
    clock.ms -= 3_600_000
    t.match(await counter.peek('a'), { banned: false })
    t.match(await counter.take('a', 2), { allowed: false, banned: true }, 'the second')
    clock.ms += 1000
    await counter.take('a', 2)
    clock.ms -= 3_600_000
    await counter.peek('a')
    clock.ms += 3_601_000
    t.match(await counter.take('a', 2), { allowed: false, banned: false }, 'a strike is over when its time is')
  })
}
