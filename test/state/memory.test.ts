/** State in memory: what every store holds to, and that it answers at once. */
import t from 'tap'
import { build, now } from './build.js'
import { holdsContract } from './contract.js'

holdsContract(t, 'memory', async (t, options) => {
  const { app, clock } = await build(t, options)
  return { state: app.state, clock, elapse: async ms => { clock.ms += ms } }
}, { rounds: 60 })

t.test('it answers at once, never with a promise, whatever its deadline', async t => {
  const { app } = await build(t)
  t.equal(app.state.kind, 'memory')
  t.equal(app.state.local, app.state)
  for (const state of [app.state, app.state.within(50)]) {
    const counter = state.counter({ name: 'c', windows: [{ limit: 10, ms: 1000 }] })
    for (const answer of [
      state.answers(), state.get('k'), state.getMany(['k']), state.set('k', 'v', 1000), state.claim('c', 'v', 1000), state.swap('k', 'v', 'w', 1000),
      state.delete('k'), state.raise('g', 1, 1000), state.add('n', 1, 1000), state.join('s', 'm', 3, 1000), state.leave('s', 'm'), state.size(),
      counter.take('a'), counter.peek('a'), counter.reset('a'),
    ]) t.notOk(answer instanceof Promise)
  }
})

t.test('values live until their time is over, and not a millisecond longer', async t => {
  const { app: { state }, clock } = await build(t)
  state.set('k', 'v', 1000)
  clock.ms += 999
  t.equal(state.get('k'), 'v')
  clock.ms += 1
  t.equal(state.get('k'), null)
  state.set('k', 'v', 1000)
  clock.ms += 900
  state.set('k', 'w', 1000)
  clock.ms += 900
  t.equal(state.get('k'), 'w', 'written again, it lives anew')
  state.add('n', 1, 1000)
  state.join('s', 'a', 3, 1000)
  clock.ms += 400
  t.same(state.add('n', 2, 1000), { count: 3, ttlMs: 600 }, 'later changes do not prolong it')
  clock.ms += 599
  t.equal(state.join('s', 'b', 3, 1000), 2)
  clock.ms += 1
  t.same(state.add('n', 1, 1000), { count: 1, ttlMs: 1000 })
  t.equal(state.join('s', 'c', 3, 1000), 1)
})

t.test('nothing is held of what came to nothing', async t => {
  const { app: { state } } = await build(t)
  const entries = () => now(state.size()).entries
  state.set('k', 'loose', 1000)
  state.set('k', 'pinned', 1000, true)
  t.equal(entries(), 1, 'a key is one entry, pinned or not')
  state.set('k', 'loose again', 1000)
  t.equal(entries(), 1)
  state.delete('k')
  t.equal(entries(), 0)
  state.set('g', '7', 1000)
  t.equal(state.raise('g', 5, 1000), 8, 'a number that could be forgotten is pinned once it is raised')
  t.equal(entries(), 1)
  state.delete('g')
  state.add('n', 3, 1000)
  state.add('n', -3, 1000)
  state.add('n', -1, 1000)
  t.equal(entries(), 0, 'a tally of 0 is none')
  state.join('s', 'z', 3, 1000)
  state.leave('s', 'z')
  t.equal(entries(), 0, 'an empty set is none')

  for (const algorithm of ['fixed', 'sliding', 'log', 'bucket'] as const) {
    const counter = state.counter({ name: algorithm, windows: [{ limit: 2, ms: 1000 }], algorithm })
    counter.peek('a')
    counter.take('a', 3)
    t.equal(now(state.size()).counters, 0, 'neither a look nor a refusal makes a subject')
    counter.take('a')
    t.equal(now(state.size()).counters, 1)
    counter.reset('a')
    t.equal(now(state.size()).counters, 0)
  }
})

t.test('closing forgets everything', async t => {
  const { app } = await build(t)
  app.state.set('k', 'v', 1e6)
  app.state.claim('c', 'v', 1e6)
  app.state.counter({ name: 'c', windows: [{ limit: 1, ms: 1000 }] }).take('a')
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
})
