/** Runs: what is recorded of many like events, and that nobody hides theirs among others, or fills the memory. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { Runs, type RunTerms } from '../plugins/runs.js'

interface Told { name: string, times: number, shared?: true, at: number }

const QUIET_MS = 60_000

function build (terms: Partial<RunTerms> = {}) {
  const clock = { ms: 1_700_000_000_000 }
  const told: Told[] = []
  const runs = new Runs<null, { time: string, details: Record<string, unknown> }>({
    compose: (_subject, details) => ({ time: '', details }),
    publish: ({ details: { name, times, shared } }) => { told.push({ name, times, ...shared === true && { shared }, at: clock.ms } as Told) },
    leave: () => {},
  }, { quietMs: QUIET_MS, max: 1000, now: () => clock.ms, ...terms })
  const come = (name: string, times = 1) => { for (let i = 0; i < times; i++) runs.record(name, null, { name }) }
  const sum = () => told.reduce((all, { times }) => all + times, 0)
  return { runs, clock, told, come, sum }
}

t.test('in no span of its time is more recorded than there are runs and the shared one, however they come and end; and all are counted', async t => {
  const { runs, clock, told, come, sum } = build({ max: 50 })
  let all = 0
  for (let half = 0; half < 20; half++) {
    for (let i = 0; i < 70; i++) {
      come(`n${half >> 1} ${i}`, 2)
      all += 2
    }
    clock.ms += QUIET_MS / 2
    if (half % 3 > 0) runs.flush(true)
  }
  const spans = told.map(({ at }) => told.filter(other => other.at >= at && other.at < at + QUIET_MS).length)
  t.ok(Math.max(...spans) <= 51, `${Math.max(...spans)} in a minute`)
  runs.flush()
  t.equal(sum(), all)
  const recorded = told.length
  runs.flush()
  t.equal(told.length, recorded, 'once')
})

t.test('what is told of in between is quiet all the same for the rest of its time', async t => {
  const { runs, clock, told, come } = build()
  come('a', 3)
  runs.flush()
  come('a')
  t.strictSame(told.map(({ times }) => times), [1, 2])
  clock.ms += QUIET_MS
  come('a')
  t.strictSame(told.map(({ times }) => times), [1, 2, 2])
})

t.test('attack: many small runs hide no large one, neither when they end, nor when they are in the way of others', async t => {
  const { runs, clock, told, come } = build()
  for (let i = 0; i < 500; i++) come(`small ${i}`, 2)
  come('large', 10_000)
  clock.ms += QUIET_MS
  runs.flush(true)
  t.match(told.find(({ name, times }) => name === 'large' && times > 1), { times: 9999, shared: undefined })
  t.equal(told.filter(({ shared }) => shared).length, 1)
  t.equal(told.length, 501 + 101)

  const other = build({ max: 10 })
  other.come('large', 10_000)
  other.clock.ms += QUIET_MS
  for (let i = 0; i < 20; i++) other.come(`small ${i}`)
  t.match(other.told.find(({ name, times }) => name === 'large' && times > 1), { times: 9999, shared: undefined })
})

t.test('who is forgotten is told of to the end, and what comes next is recorded', async t => {
  const { runs, come, told } = build()
  come('a', 4)
  runs.forget('a')
  runs.forget('b')
  come('a', 2)
  t.strictSame(told.map(({ times }) => times), [1, 3, 1])
})

t.test('attack: of what is long, and cut before it is kept, the rest is not held in memory', async t => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const { runs } = build({ max: 2000 })
  gc()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 4000; i++) runs.record(`${i >> 1}`, null, { text: Buffer.alloc(15_000, 97).toString('latin1').slice(0, 256) })
  gc()
  const each = (process.memoryUsage().heapUsed - before) / 2000
  t.ok(each < 5000, `${Math.round(each)} bytes a run`)
  runs.flush()
  runs.record('a', null, { broken () {} })
  runs.record('a', null, { broken () {} })
})
